"""Every built-in lab has an entry point and the default preset `quick`."""

import importlib.util

from jaxlabs import labs
from jaxlabs.config import settings


def test_every_lab_has_an_entry_point_under_its_name():
    assert len(labs.names()) == 14
    for name in labs.names():
        lab = labs.load(name)
        assert lab.name == name
        assert importlib.util.find_spec(f"experiments.{name}") is not None, name
        assert next(iter(lab.presets)) == "quick", name


def test_inputs_are_settings_that_take_the_run_of_a_lab():
    for name in labs.names():
        for flag, source in labs.load(name).inputs.items():
            assert flag in dict(settings(labs.load(name).config_class))
            assert source in labs.names()
