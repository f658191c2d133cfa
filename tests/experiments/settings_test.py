"""Every field of a config is read by library code."""

import sys
from pathlib import Path

import pytest

import jaxlabs
from jaxlabs import config
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables")

CODE = Path(jaxlabs.__file__).parents[1]
ELSEWHERE = {"workdir": "read from the command line only, by Invocation.folder"}


@pytest.fixture
def read(monkeypatch):
    """Names of the settings that library code reads.

    Code that validates, copies, compares or stores a config reads every field and is not counted.
    """
    fields = {name for name, _ in config.settings(LAB.config_class)}
    names = set()

    def record(self, name):
        if name in fields:
            reader = sys._getframe(1).f_code
            path = Path(reader.co_filename)
            ours = path.is_relative_to(CODE / "jaxlabs") or path.is_relative_to(
                CODE / "experiments"
            )
            if ours and path.name != "config.py" and reader.co_name != "check":
                names.add(name)
        return object.__getattribute__(self, name)

    monkeypatch.setattr(config.Config, "__getattribute__", record, raising=False)
    return names


RUNS = {
    "sgd": "--optimizer=sgd --momentum=0.9 --nesterov --steps=0",
    "lion": "--optimizer=lion --steps=0",
    "adamw": "--grad_clip_norm=1 --ema_decay=0.5 --lr_schedule=cosine --tensorboard --profile",
    "muon": "--optimizer=muon --lr_schedule=linear",
}


def test_every_setting_is_read(read, tiny_flags, tmp_path):
    for name, flags in RUNS.items():
        workdir = f"--workdir={tmp_path / name}"
        assert cli.run(LAB, [*tiny_flags, "--steps=2", workdir, *flags.split()]) == 0
    assert cli.run(LAB, ["--mode=sample", workdir]) == 0
    fields = {name for name, _ in config.settings(LAB.config_class)}
    assert fields - read == ELSEWHERE.keys()


def test_generic_reads_of_a_config_are_not_counted(read):
    settings = LAB.config_class()
    settings.flat(), settings.identity(), hash(settings), repr(settings)
    assert settings == LAB.config_class()
    checked = {"lr_schedule", "decay_steps", "warmup_steps", "steps", "end_lr_ratio"}
    checked |= {"optimizer", "weight_decay"}  # its default depends on the optimizer
    assert read - {"optimization"} <= checked
