"""The lab of docs/guides/add-a-lab.md: outside of the project and inside, run by its command."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import experiments
from jaxlabs import commands, labs
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, new

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "add-a-lab.md").read_text()
LAB, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NEW, RUN = (shlex.split(line)[1:] for line in re.findall(r"```\n(jaxlabs .*?)\n```", PAGE))
MODULE = re.search(r"`python -m (experiments\.my_lab)`", PAGE)[1]


pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, where `jaxlabs new` has written the lab."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the folder of a lab is added
    assert commands.run(NEW) == 0
    return tmp_path


@pytest.fixture
def ends_with_0(monkeypatch):
    """`ends_with_0(run, *arguments)`: calls what ends the process with status 0."""
    monkeypatch.setattr(cli.signals, "guard", lambda: None)  # the process is pytest's

    def end(run, *arguments, **options):
        with pytest.raises(SystemExit) as ended:
            run(*arguments, **options)
        assert ended.value.code == 0

    return end


@pytest.fixture
def run(here, ends_with_0):
    """`run(*flags) -> folder`: runs the command of the page to its end."""

    def command(*flags):
        ends_with_0(commands.run, [*RUN, *flags])
        return RunFolder("runs/my_lab-quick")

    return command


@pytest.fixture
def added(here, monkeypatch):
    """Moves the lab into the project, with its entry, as the page says."""
    folder = here / "labs" / "my_lab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (here / "my_lab.py").rename(folder / "lab.py")
    (here / "entries").mkdir()
    (here / "entries" / "my_lab.py").write_text(ENTRY)
    monkeypatch.setattr(labs, "__path__", [*labs.__path__, str(here / "labs")])
    monkeypatch.setattr(experiments, "__path__", [str(here / "entries")])
    yield
    for name in [name for name in sys.modules if name.startswith("jaxlabs.labs.my_lab")]:
        del sys.modules[name]


def test_lab_of_the_guide_is_the_one_that_the_command_writes(here):
    assert (here / "my_lab.py").read_text() == LAB == new.content("my_lab.py", "my_lab")


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/guides/add-a-lab.md"])
def test_stated_length_of_the_lab_is_that_of_the_file(page):
    stated = re.findall(r"lab of (\d+) lines", (ROOT / page).read_text())
    assert stated == [str(LAB.count("\n"))]


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
    assert "test_accuracy" in capsys.readouterr().out


def test_lab_of_the_guide_learns_the_spirals(run):
    assert run().read_summary()["metrics"]["test_accuracy"] > 0.99


def test_lab_inside_the_project_runs_by_its_entry(added, ends_with_0, monkeypatch):
    assert "my_lab" in labs.names()
    monkeypatch.setattr(sys, "argv", ["-m", "--platform=cpu", "--steps=2"])
    ends_with_0(runpy.run_module, MODULE, run_name="__main__")
    assert RunFolder("runs/my_lab-quick").is_complete()


def test_array_without_a_plot_fails_the_test_of_a_lab(added):
    folder = RunFolder("run")
    folder.create()
    folder.write_config({"experiment": "my_lab", "preset": "quick", "settings": {}})
    folder.write_arrays("map", shares=[0.5])
    with pytest.raises(AssertionError, match=r"arrays without a plot: \['map'\]"):
        write_report(folder, labs.load("my_lab"))
