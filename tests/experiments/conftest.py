"""What the tests of all commands ask of them: errors in one line, and runs that go on exactly."""

import shlex
import shutil

import pytest

from jaxlabs import command, modes
from jaxlabs.run_folder import RunFolder

TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(lab, *flags) -> error`: holds it to status 2, one line, and nothing left behind."""

    def refuse(lab, *flags):
        folder = tmp_path / "refused"
        assert command.run(lab, [f"--workdir={folder}", *flags]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not folder.exists()
        return error

    return refuse


@pytest.fixture
def cut_off(tmp_path):
    """`cut_off(run) -> folder`: a copy of a finished run that was killed before its last step."""

    def copy(run):
        folder = RunFolder(shutil.copytree(run.path, tmp_path / "cut_off"))
        steps = sorted(int(path.name) for path in folder.checkpoints.iterdir())
        shutil.rmtree(folder.checkpoints / str(steps[-1]))
        (folder.path / "summary.json").unlink()
        return folder

    return copy


@pytest.fixture
def ask_again(tmp_path, monkeypatch):
    """`ask_again(lab, run)`: a finished run takes its own command again, and is read by others."""
    # Drawing takes most of the time, and is not what is asked here.
    monkeypatch.setattr(modes, "write_report", lambda folder: folder.report)

    def ask(lab, run):
        folder = shutil.copytree(run.path, tmp_path / "again")
        words = shlex.split(run.read_config()["command"])[3:]
        flags = [word for word in words if not word.startswith("--workdir=")]
        for mode in ([*flags], ["--mode=evaluate"], ["--mode=analyze"]):
            assert command.run(lab, [*mode, f"--workdir={folder}"]) == 0

    return ask


@pytest.fixture(scope="session")
def require_same_end():
    """`require_same_end(run, other)`: both ended alike, to the bit, but for the time they took."""

    def require(*runs):
        ours, theirs = (run.read_summary() for run in runs)
        assert ours["parameters_sha256"] == theirs["parameters_sha256"]
        assert ours["metrics"] == theirs["metrics"]
        rows = [
            [{k: v for k, v in row.items() if k not in TIME_FIELDS} for row in one.read_metrics()]
            for one in runs
        ]
        assert rows[0] == rows[1]

    return require
