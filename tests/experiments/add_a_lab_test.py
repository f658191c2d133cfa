"""The lab of docs/guides/add-a-lab.md: run by its command, resumed and reported."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import experiments
from jaxlabs import labs
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "add-a-lab.md").read_text()
LAB, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(COMMAND,) = re.findall(r"```\n(python -m .*?)\n```", PAGE)


pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Writes the two files of the page to where the packages find them."""
    folder = tmp_path / "labs" / "spirals"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "lab.py").write_text(LAB)
    (tmp_path / "entries").mkdir()
    (tmp_path / "entries" / "spirals.py").write_text(ENTRY)
    monkeypatch.setattr(labs, "__path__", [*labs.__path__, str(tmp_path / "labs")])
    monkeypatch.setattr(experiments, "__path__", [str(tmp_path / "entries")])
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("jaxlabs.labs.spirals")]:
        del sys.modules[name]


@pytest.fixture
def run(added, monkeypatch):
    """`run(*flags) -> folder`: runs the command of the page to its end."""
    monkeypatch.setattr(cli.signals, "guard", lambda: None)  # the process is pytest's

    def command(*flags):
        _, _, module, *given = shlex.split(COMMAND)
        monkeypatch.setattr(sys, "argv", ["-m", *given, *flags])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
        assert ended.value.code == 0
        return RunFolder("runs/spirals-quick")

    return command


def test_lab_of_the_guide_trains_resumes_and_reports(run, require_same_end, capsys):
    flags = ["--steps=40", "--eval_every=20", "--checkpoint_every=20"]
    folder = run(*flags)
    assert "test_accuracy" in folder.read_summary()["metrics"]
    assert "Samples during training" in folder.report.read_text()
    whole = RunFolder(shutil.copytree(folder.path, "whole"))
    shutil.rmtree(folder.checkpoints / "40")
    (folder.path / "summary.json").unlink()
    capsys.readouterr()
    require_same_end(run(*flags), whole)
    assert "resuming at step 20" in capsys.readouterr().err
    run("--mode=evaluate")
    assert "test/accuracy" in capsys.readouterr().out


def test_lab_of_the_guide_learns_the_spirals(run):
    assert run().read_summary()["metrics"]["test_accuracy"] > 0.99


def test_array_without_a_plot_fails_the_test_of_a_lab(added):
    folder = RunFolder("run")
    folder.create()
    folder.write_config({"experiment": "spirals", "preset": "quick", "settings": {}})
    folder.write_arrays("map", shares=[0.5])
    with pytest.raises(AssertionError, match=r"arrays without a plot: \['map'\]"):
        write_report(folder, labs.load("spirals"))


def test_names_of_labs_include_the_new_folder(added):
    assert "spirals" in labs.names()
    assert labs.load("spirals").name == "spirals"
