"""The suite has every lab; worked_problems_test runs one of them."""

import importlib.util

from experiments import reproduce


def test_suite_has_every_lab_under_the_name_of_its_command():
    labs = dict(reproduce.labs())
    expected = {"gpt", "ddpm", "attention", "rnn_dynamics", "worked_problems", "sparse_autoencoder"}
    assert expected <= labs.keys()
    assert not labs.keys() & set(reproduce.NO_LABS)
    assert set(reproduce.MAIN) <= labs.keys()
    for name, lab in labs.items():
        assert importlib.util.find_spec(f"experiments.{name}") is not None, name
        assert next(iter(lab.presets)) == "quick", name
