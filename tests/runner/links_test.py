"""Links in a run folder: nothing outside is read, overwritten or deleted through them.

`checkpoints`, or the whole folder, may be on another disk.
"""

import os
import shutil

import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import WRITTEN, RunFolder
from jaxlabs.runner import cli

ABOUT_DAMAGE = True
pytestmark = pytest.mark.usefixtures("reused_executables")

SECRET = "text of the user"


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def outside(tmp_path):
    """A folder of the user, with files of every name that a run writes."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in (*WRITTEN, ".lock", "final.txt", "final.json", "step-000004.txt", "loss.png"):
        if name.startswith(".") or "." in name:
            (folder / name).write_text(SECRET)
    for name in ("4", "damaged", "damaged/4", "4.orbax-checkpoint-tmp"):
        (folder / name).mkdir()
        (folder / name / "kept").write_text(SECRET)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def linked(path, target):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def check_nothing_read(run, capsys):
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    assert not run.report.is_file() or SECRET not in run.report.read_text()


def test_writing_replaces_links_and_not_their_targets(run, outside, tiny_flags, capsys):
    for name in ("report.html", ".report.html.partial"):
        linked(run.path / name, outside / "report.html")
    linked(run.figures / "loss.png", outside / "loss.png")
    for name in ("final.txt", "step-000004.txt"):
        linked(run.samples / name, outside / name)
    before = contents(outside)
    assert cli.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run.path}"]) == 0
    check_nothing_read(run, capsys)
    assert contents(outside) == before
    assert not run.report.is_symlink()
    assert "samples/final.txt" in run.report.read_text()  # as omitted


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_run_with_files_outside_is_not_analyzed(name, run, outside, refused):
    target = outside / name
    linked(run.path / name, target)
    before = contents(outside)
    line = refused("--mode=analyze", f"--workdir={run.path}", late=True)
    assert f"{run.path / name}" in line
    assert f"is a link out of the run folder, to {target}" in line
    assert contents(outside) == before


def test_overwriting_removes_links_and_not_their_targets(run, outside, tiny_flags, capsys):
    for name in WRITTEN:
        if name != "config.json" and not (run.path / name).is_dir():
            linked(run.path / name, outside / name if "." in name else outside)
    linked(run.checkpoints, outside)
    before = contents(outside)
    flags = [*tiny_flags, "--steps=0", f"--workdir={run.path}", "--overwrite"]
    assert cli.run(LAB, flags) == 0
    check_nothing_read(run, capsys)
    assert contents(outside) == before
    assert run.is_complete()


@pytest.mark.parametrize("name", ["4", "damaged"])
def test_checkpoint_that_is_a_link_is_read_and_not_deleted(name, run, outside, tiny_flags, refused):
    shutil.rmtree(outside / "4")
    shutil.move(run.checkpoints / "4", outside / "4")
    (run.checkpoints / name).symlink_to(outside / name)
    if name != "4":
        shutil.copytree(outside / "4", run.checkpoints / "4")
    before = contents(outside)
    line = refused(*tiny_flags, "--steps=4", f"--workdir={run.path}")
    link = run.checkpoints / name
    assert line == f"--workdir: {link} is a link; replace it with its target"
    assert cli.run(LAB, ["--mode=export", f"--workdir={run.path}"]) == 0
    assert contents(outside) == before


def test_fifo_in_a_checkpoint_is_refused_without_blocking(run, tiny_flags, refused):
    path = run.checkpoints / "4" / "_CHECKPOINT_METADATA"
    path.unlink()
    os.mkfifo(path)
    for flags in ([*tiny_flags, "--steps=4"], ["--mode=export"]):
        line = refused(*flags, f"--workdir={run.path}")
        assert line.startswith(f"--workdir: {path} is not a file; remove it, or the checkpoint")


def test_run_names_in_a_summary_cannot_leave_the_folder(run, outside):
    metrics = {"loss": {"values": [1.0], "mean": 1.0, "std": None}}
    group = {"settings": {}, "seeds": [0], "metrics": metrics}

    for name in ("../../outside", str(outside), ".."):
        run.write_summary(run.read_summary() | {"groups": [group | {"runs": [name]}]})
        assert "is not a run name" in write_report(run, LAB).read_text()


@pytest.mark.parametrize("name", ["", "checkpoints"])
def test_run_or_its_checkpoints_may_be_on_another_disk(name, tiny_flags, tmp_path, capsys):
    disk, run = tmp_path / "disk", RunFolder(tmp_path / "run")
    disk.mkdir()
    if name:
        run.path.mkdir()
    (run.path / name).symlink_to(disk)
    flags = [*tiny_flags, "--checkpoint_every=2", f"--workdir={run.path}"]
    assert cli.run(LAB, [*flags, "--steps=4"]) == 0
    os.remove(run.path / "summary.json")
    shutil.rmtree(run.checkpoints / "4")
    capsys.readouterr()
    assert cli.run(LAB, [*flags, "--steps=4"]) == 0
    assert "resuming at step 2" in capsys.readouterr().err
    assert (run.path / name).is_symlink()
    assert run.is_complete()
