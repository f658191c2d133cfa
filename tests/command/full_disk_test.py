"""A disk that is full or fails ends a run in one line, and the run can be ended later."""

import errno
import os
import shutil

import pytest

from experiments.gpt import LAB
from jaxlabs import command, modes, run_folder
from jaxlabs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("reused_executables")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FILES_OF_A_RUN = {
    "config.json": [],
    "metrics.jsonl": [],
    "step-000000.txt": [],
    "lr_range.npz": ["--lr_range_test"],
}
FILES_OF_ITS_END = ["final.txt", "attention_maps.npz", "summary.json", "loss.png", "report.html"]


def fill_disk_at(name, monkeypatch):
    """Makes the disk full when the file of that name is to be put in its place."""
    replace = os.replace

    def full(source, target):
        if os.path.basename(target) == name:
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def said_by_the_runner(capsys):
    """What stderr holds beside the progress of the run."""
    return [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("step ", "resuming"))
    ]


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_disk_that_is_full_at_the_start_is_one_line(
    name, tiny_flags, tmp_path, monkeypatch, capsys
):
    fill_disk_at(name, monkeypatch)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}", *FILES_OF_A_RUN[name]]
    assert command.run(LAB, flags) == 2
    (line,) = said_by_the_runner(capsys)
    assert line.startswith(f"gpt: --workdir: cannot write {run}/")
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert not list(run.rglob("*.partial"))


@pytest.mark.parametrize("name", FILES_OF_ITS_END)
def test_disk_that_is_full_at_the_end_is_one_line_and_the_run_can_be_ended_later(
    name, tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        fill_disk_at(name, patch)
        capsys.readouterr()
        assert command.run(LAB, flags) == 2
    (line,) = said_by_the_runner(capsys)
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert command.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]


def test_disk_that_fills_up_while_training_is_one_line(tiny_flags, tmp_path, monkeypatch, capsys):
    def full_when_appending(path, mode="r", **options):
        if mode == "a" and path == run / "metrics.jsonl":
            raise FULL
        return open(path, mode, **options)

    run = tmp_path / "run"
    monkeypatch.setattr(run_folder, "open", full_when_appending, raising=False)
    assert command.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run}"]) == 2
    assert said_by_the_runner(capsys) == [
        f"gpt: --workdir: cannot write {run}/metrics.jsonl (the disk is full); "
        "a writable folder with space is needed"
    ]


def test_checkpoint_that_does_not_fit_on_the_disk_is_one_line(
    tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    usage = shutil.disk_usage(tmp_path)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
        assert command.run(LAB, flags) == 2
    assert said_by_the_runner(capsys) == [
        f"gpt: --workdir: cannot write {run}/checkpoints (the disk is full); "
        "a writable folder with space is needed"
    ]
    assert command.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]


def test_unforeseen_disk_error_and_interrupt_are_one_line(tiny_flags, monkeypatch, capsys):
    ends = {
        OSError(errno.EIO, "Input/output error", "/mnt/disk"): (
            2,
            "gpt: /mnt/disk: Input/output error",
        ),
        KeyboardInterrupt(): (130, "gpt: interrupted; run the same command to resume"),
    }
    for error, (status, line) in ends.items():

        def fail(request, error=error):
            raise error

        monkeypatch.setattr(modes, "run", fail)
        assert command.run(LAB, tiny_flags) == status
        assert capsys.readouterr().err == line + "\n"
