"""A checkpoint is never continued or read with other settings than those it was trained with."""

import json
import os
import shutil

import pytest

from experiments import gpt, mnist_classifier
from jaxlabs import command
from jaxlabs.analysis.judge import open_judge
from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("reused_executables")

DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:200]),
    "list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "no_text": lambda path: path.write_bytes(b"\x00\xff\xfe"),
    "settings_are_no_object": lambda path: path.write_text(
        '{"experiment": "gpt", "settings": "none"}'
    ),
    "unreadable": lambda path: path.chmod(0),
}
READING = ("sample", "evaluate", "export", "analyse")


def contents(path):
    return {
        str(found.relative_to(path)): found.read_bytes()
        for found in path.rglob("*")
        if found.is_file()
    }


@pytest.fixture
def cut_off(trained, tmp_path):
    """A run that was killed after its checkpoint, before its summary."""
    run = RunFolder(shutil.copytree(trained, tmp_path / "run"))
    (run.path / "summary.json").unlink()
    return run


@pytest.mark.parametrize("damage", DAMAGE)
def test_run_whose_config_is_damaged_is_refused(damage, cut_off, refused, tiny_flags):
    if damage == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    config = cut_off.path / "config.json"
    others = contents(cut_off.path)
    del others["config.json"]
    DAMAGE[damage](config)
    for flags in (
        [],
        ["--seed=5", "--learning_rate=0.5"],
        ["--lr_range_test"],
        ["--replay_step=4"],
    ):
        line = refused(*tiny_flags, "--steps=4", f"--workdir={cut_off.path}", *flags)
        assert "config.json" in line
        assert line.endswith("choose another --workdir")
    found = contents(cut_off.path)
    found.pop("config.json", None) if damage != "unreadable" else None
    assert found == others


@pytest.fixture
def edited(cut_off):
    """A run whose config.json tells of another seed than its checkpoint was trained with."""
    stored = cut_off.read_config()
    stored["settings"]["seed"] = 5
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    return cut_off


OTHER_SEED = (
    "is of a run with other settings than the config.json beside it: seed (0 there, 5 here)"
)


@pytest.mark.parametrize("flags", [[], ["--replay_step=4"]])
def test_checkpoint_of_other_settings_is_not_continued(flags, edited, refused, tiny_flags):
    before = contents(edited.path)
    line = refused(*tiny_flags, "--steps=4", "--seed=5", f"--workdir={edited.path}", *flags)
    assert line.startswith(f"--workdir: the checkpoint of step 4 in {edited.checkpoints} ")
    assert OTHER_SEED in line
    assert contents(edited.path) == before


@pytest.mark.parametrize("mode", READING)
def test_checkpoint_of_other_settings_is_not_read(mode, edited, refused):
    assert OTHER_SEED in refused(f"--mode={mode}", f"--workdir={edited.path}")


def test_checkpoint_of_other_data_is_not_read(cut_off, refused):
    stored = cut_off.read_config()
    stored["dataset"]["sha256"] = "0" * 64
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    line = refused("--mode=sample", f"--workdir={cut_off.path}")
    assert "than the config.json beside it: the data set's contents; restore" in line


def test_setting_that_is_newer_than_a_run_is_as_its_default(cut_off, refused, tiny_flags):
    stored = cut_off.read_config()
    del stored["settings"]["qk_norm"]
    (cut_off.path / "config.json").write_text(json.dumps(stored))
    flags = [*tiny_flags, "--steps=4", f"--workdir={cut_off.path}"]
    assert "qk_norm (False there, True here)" in refused(*flags, "--qk_norm")
    assert command.run(gpt.LAB, flags) == 0


def test_classifier_whose_checkpoint_has_other_settings_judges_nothing(edited):
    stored = edited.read_config() | {"experiment": mnist_classifier.LAB.name}
    (edited.path / "config.json").write_text(json.dumps(stored))
    edited.write_summary({"metrics": {"test_accuracy": 1.0}})
    dataset = stored["dataset"] | {"classes": ["0", "1"], "shape": [8, 8, 1]}
    with pytest.raises(UserError, match=r"seed \(0 there, 5 here\)"):
        open_judge(str(edited.path), dataset)
