"""A checkpoint is never continued or read with other settings than those it was trained with."""

import json
import os
import shutil
from pathlib import Path

import pytest

from experiments import gpt, mnist_classifier
from jaxlabs import command
from jaxlabs.analysis.feature_extractor import open_judge
from jaxlabs.config import UserError
from jaxlabs.opening import open_run
from jaxlabs.run_folder import RunFolder
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
def cut_off(here):
    """A run that was killed after the checkpoint of step 4, beside its text."""
    shutil.copy(STORED / "play.txt", here)
    return RunFolder(shutil.copytree(STORED / "gpt_interrupted", here / "run"))


@pytest.fixture
def flags(tiny_flags, cut_off):
    """The command of that run."""
    given = ["--dataset=play.txt", "--steps=8", "--dropout=0.2", "--ema_decay=0.9"]
    return [*tiny_flags, *given, f"--workdir={cut_off.path}"]


OTHERS = ([], ["--seed=5", "--learning_rate=0.5"], ["--lr_range_test"], ["--replay_step=4"])


@pytest.mark.parametrize("damage", DAMAGE)
def test_run_whose_config_is_damaged_is_refused(damage, cut_off, refused, flags):
    if damage == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    before = contents(cut_off.path)
    DAMAGE[damage](cut_off.path / "config.json")
    for more in OTHERS:
        assert "config.json" in refused(*flags, *more)
    (cut_off.path / "config.json").unlink(missing_ok=True)
    after = contents(cut_off.path) | {"config.json": before["config.json"]}
    assert after == before


@pytest.fixture
def edited(cut_off):
    """That run, whose config.json now tells of another seed than it was trained with."""
    stored = cut_off.read_config()
    stored["settings"]["seed"] = 5
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    return cut_off


OTHER_SEED = (
    "is of a run with other settings than the config.json beside it: seed (0 there, 5 here)"
)


@pytest.mark.parametrize("more", [[], ["--replay_step=6"]])
def test_checkpoint_of_other_settings_is_not_continued(more, edited, refused, flags):
    before = contents(edited.path)
    line = refused(*flags, "--seed=5", *more)
    assert line.startswith(f"--workdir: the checkpoint of step 4 in {edited.checkpoints} ")
    assert OTHER_SEED in line
    assert before.items() <= contents(edited.path).items()


@pytest.mark.parametrize("mode", READING)
def test_checkpoint_of_other_settings_is_not_read(mode, edited, refused):
    assert OTHER_SEED in refused(f"--mode={mode}", f"--workdir={edited.path}")


def test_checkpoint_of_other_data_is_not_read(cut_off, refused):
    stored = cut_off.read_config()
    stored["dataset"]["sha256"] = "0" * 64
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    line = refused("--mode=sample", f"--workdir={cut_off.path}")
    assert "than the config.json beside it: the data set's contents; restore" in line


def test_setting_that_is_newer_than_a_run_is_as_its_default(cut_off, refused, flags):
    stored = cut_off.read_config()
    del stored["settings"]["qk_norm"]
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    assert "qk_norm (False there, True here)" in refused(*flags, "--qk_norm")
    request = command.parse(gpt.LAB, flags)
    with (
        open_run(request, request.config(), gpt.load_data(request.config())) as folder,
        Checkpoints(folder.checkpoints, keep=2) as checkpoints,
    ):
        checkpoints.require_run(gpt.GPTConfig, folder.read_config())


def test_classifier_whose_checkpoint_has_other_settings_judges_nothing(edited):
    stored = edited.read_config() | {"experiment": mnist_classifier.LAB.name}
    (edited.path / "config.json").write_text(json.dumps(stored))
    summary = RunFolder(STORED / "gpt_dropout_ema").read_summary()
    edited.write_summary(summary | {"metrics": {"test_accuracy": 1.0}})
    dataset = stored["dataset"] | {"classes": ["0", "1"], "shape": [8, 8, 1]}
    with pytest.raises(UserError, match=r"seed \(0 there, 5 here\)"):
        open_judge(str(edited.path), dataset)
