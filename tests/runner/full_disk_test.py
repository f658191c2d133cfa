"""A full or failing disk gives one line, and the run can be resumed."""

import errno
import os
import shutil

import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder import folder as run_folder
from jaxlabs.runner import cli, modes

pytestmark = pytest.mark.usefixtures("reused_executables")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FILES_AT_START = {
    "config.json": [],
    "metrics.jsonl": [],
    "step-000000.txt": [],
    "lr_range.npz": ["--mode=lr_range"],
}
FILES_AT_END = ["final.txt", "attention_maps.npz", "summary.json", "loss.png", "report.html"]


def fill_disk_at(name, monkeypatch):
    """Makes the disk full when the file of that name is written."""
    replace = os.replace

    def full(source, target):
        if os.path.basename(target) == name:
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def error_lines(capsys):
    """Returns the lines on stderr that are no progress."""
    return [
        line
        for line in capsys.readouterr().err.splitlines()
        if not line.startswith(("step ", "resuming", "needs ", "final evaluation"))
    ]


@pytest.mark.parametrize("name", FILES_AT_START)
def test_full_disk_at_the_start_gives_one_line(name, tiny_flags, tmp_path, monkeypatch, capsys):
    fill_disk_at(name, monkeypatch)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}", *FILES_AT_START[name]]
    assert cli.run(LAB, flags) == 2
    (line,) = error_lines(capsys)
    assert line.startswith(f"gpt: --workdir: cannot write {run}/")
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert not list(run.rglob("*.partial"))


@pytest.mark.parametrize("name", FILES_AT_END)
def test_full_disk_at_the_end_gives_one_line_and_the_run_can_be_resumed(
    name, tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        fill_disk_at(name, patch)
        capsys.readouterr()
        assert cli.run(LAB, flags) == 2
    (line,) = error_lines(capsys)
    assert line.endswith(f"{name} (the disk is full); a writable folder with space is needed")
    assert cli.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]


def test_full_disk_during_training_gives_one_line(tiny_flags, tmp_path, monkeypatch, capsys):
    def full_when_appending(path, mode="r", **options):
        if mode == "ab" and path == run / "metrics.jsonl":
            raise FULL
        return open(path, mode, **options)

    run = tmp_path / "run"
    monkeypatch.setattr(run_folder, "open", full_when_appending, raising=False)
    assert cli.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={run}"]) == 2
    (line,) = error_lines(capsys)
    assert line == (
        f"gpt: --workdir: cannot write {run}/metrics.jsonl (the disk is full); "
        "a writable folder with space is needed"
    )


def test_checkpoint_larger_than_the_free_disk_space_gives_one_line(
    tiny_flags, trained, tmp_path, monkeypatch, capsys
):
    usage = shutil.disk_usage(tmp_path)
    run = tmp_path / "run"
    flags = [*tiny_flags, "--steps=4", f"--workdir={run}"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
        assert cli.run(LAB, flags) == 2
    assert error_lines(capsys) == [
        f"gpt: --workdir: cannot write {run}/checkpoints (the disk is full); "
        "a writable folder with space is needed"
    ]
    assert cli.run(LAB, flags) == 0
    ours, theirs = (RunFolder(path).read_summary() for path in (run, trained))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]


def test_other_disk_errors_and_interrupts_give_one_line(tiny_flags, monkeypatch, capsys):
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
        assert cli.run(LAB, tiny_flags) == status
        assert capsys.readouterr().err == line + "\n"
