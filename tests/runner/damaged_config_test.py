"""A checkpoint is never resumed or read with settings other than its own."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from jaxlabs.analysis.feature_extractor import restore_feature_extractor
from jaxlabs.config import UserError
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.mnist_classifier import lab as mnist_classifier
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.run_context import open_run
from jaxlabs.training.checkpoints import Checkpoints

DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:200]),
    "list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "zeros": lambda path: path.write_bytes(b"\x00" * 100),
    "settings_are_no_object": lambda path: path.write_text(
        '{"experiment": "gpt", "settings": "none"}'
    ),
    "unreadable": lambda path: path.chmod(0),
}
STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
READING = ("sample", "evaluate", "export", "analyze")


def contents(path):
    return {
        str(found.relative_to(path)): found.read_bytes()
        for found in path.rglob("*")
        if found.is_file()
    }


@pytest.fixture
def killed(here):
    """A run that was killed after the checkpoint of step 4, and its text."""
    shutil.copy(STORED / "play.txt", here)
    return RunFolder(shutil.copytree(STORED / "gpt_interrupted", here / "run"))


@pytest.fixture
def flags(tiny_flags, killed):
    """The command of that run."""
    given = ["--dataset=play.txt", "--steps=8", "--dropout=0.2", "--ema_decay=0.9"]
    return [*tiny_flags, *given, f"--workdir={killed.path}"]


OTHERS = (
    [],
    ["--seed=5", "--learning_rate=0.5"],
    ["--mode=lr_range"],
    ["--mode=replay", "--replay_step=4"],
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_run_with_damaged_config_is_refused(damage, killed, refused, flags):
    if damage == "unreadable" and (sys.platform == "win32" or os.geteuid() == 0):
        pytest.skip("root may read everything")
    before = contents(killed.path)
    DAMAGE[damage](killed.path / "config.json")
    for more in OTHERS:
        assert "config.json" in refused(*flags, *more)
    (killed.path / "config.json").unlink(missing_ok=True)
    after = contents(killed.path) | {"config.json": before["config.json"]}
    assert after == before


@pytest.fixture
def edited(killed):
    """The run with another seed in config.json."""
    stored = killed.read_config()
    stored["settings"]["seed"] = 5
    (killed.path / "config.json").write_text(json.dumps(stored))
    return killed


OTHER_SEED = "has other settings than config.json: seed (stored 0, given 5)"


@pytest.mark.parametrize("more", [[], ["--mode=replay", "--replay_step=6"]])
def test_checkpoint_with_other_settings_is_not_resumed(more, edited, refused, flags):
    before = contents(edited.path)
    line = refused(*flags, "--seed=5", *more)
    assert line.startswith(f"--workdir: the checkpoint of step 4 in {edited.checkpoints} ")
    assert OTHER_SEED in line
    assert before.items() <= contents(edited.path).items()


@pytest.mark.parametrize("mode", READING)
def test_checkpoint_with_other_settings_is_not_read(mode, edited, refused):
    assert OTHER_SEED in refused(f"--mode={mode}", f"--workdir={edited.path}")


def test_checkpoint_with_other_data_is_not_read(killed, refused):
    stored = killed.read_config()
    stored["dataset"]["sha256"] = "0" * 64
    (killed.path / "config.json").write_text(json.dumps(stored))
    line = refused("--mode=sample", f"--workdir={killed.path}")
    assert "than config.json: the data set's contents; restore" in line


def test_setting_newer_than_a_run_has_its_default(killed, refused, flags):
    stored = killed.read_config()
    del stored["settings"]["qk_norm"]
    (killed.path / "config.json").write_text(json.dumps(stored))
    assert "qk_norm (stored False, given True)" in refused(*flags, "--qk_norm")
    invocation = cli.parse(gpt.LAB, flags)
    with (
        open_run(invocation, invocation.config(), gpt.load_data(invocation.config())) as folder,
        Checkpoints(folder.checkpoints, keep=2) as checkpoints,
    ):
        checkpoints.require_run(gpt.GPTRunConfig, folder.read_config())


def test_classifier_with_a_checkpoint_of_other_settings_is_refused(edited):
    stored = edited.read_config() | {"experiment": mnist_classifier.LAB.name}
    (edited.path / "config.json").write_text(json.dumps(stored))
    summary = RunFolder(STORED / "gpt_dropout_ema").read_summary()
    edited.write_summary(summary | {"metrics": {"test_accuracy": 1.0}})
    dataset = stored["dataset"] | {"classes": ["0", "1"], "shape": [8, 8, 1]}
    with pytest.raises(UserError, match=r"seed \(stored 0, given 5\)"):
        restore_feature_extractor(str(edited.path), dataset)
