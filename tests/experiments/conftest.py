"""Shared checks of all commands: errors of one line, and exact resumption."""

import re
import shlex
import shutil

import pytest

from jaxlabs.report import figures, page
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes

TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture(scope="package", autouse=True)
def every_array_has_a_plot():
    """Fails a run whose lab writes an array file without an entry in `Lab.plots`."""

    def build_figures(folder, damaged, plots, records):
        written = {path.stem for path in (folder.path / "arrays").glob("*.npz")}
        unplotted = written - {*plots, *figures.COMMON_PLOTS}
        assert not unplotted, f"arrays without a plot: {sorted(unplotted)}"
        return figures.build_figures(folder, damaged, plots, records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "build_figures", build_figures)
        yield


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(lab, *flags) -> error`: requires status 2, one line, and no run folder."""

    def refuse(lab, *flags):
        folder = tmp_path / "refused"
        assert cli.run(lab, [f"--workdir={folder}", *flags]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not folder.exists()
        return error

    return refuse


@pytest.fixture
def cut_off(tmp_path):
    """`cut_off(run) -> folder`: a copy of a run without its last checkpoint and its summary."""

    def copy(run):
        folder = RunFolder(shutil.copytree(run.path, tmp_path / "cut_off"))
        steps = sorted(int(path.name) for path in folder.checkpoints.iterdir())
        shutil.rmtree(folder.checkpoints / str(steps[-1]))
        (folder.path / "summary.json").unlink()
        return folder

    return copy


@pytest.fixture
def rerun(tmp_path, monkeypatch):
    """`rerun(lab, run)`: reruns the command of a finished run, and evaluates and analyzes it."""
    # Plotting takes most of the time and is not tested here.
    monkeypatch.setattr(modes, "write_report", lambda folder, lab: folder.report)

    def again(lab, run):
        folder = shutil.copytree(run.path, tmp_path / "again")
        words = shlex.split(run.read_config()["command"])
        flags = [word for word in words if re.match(r"--(?!workdir=)", word)]
        for mode in (flags, ["--mode=evaluate"], ["--mode=analyze"]):
            assert cli.run(lab, [*mode, f"--workdir={folder}"]) == 0

    return again


@pytest.fixture(scope="session")
def require_same_end():
    """`require_same_end(run, other)`: equal parameters, metrics and rows, except for durations."""

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
