"""Labs by name and by the path of a file."""

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest

from jaxlabs import commands, labs
from jaxlabs.config import UserError
from jaxlabs.labs.char_rnn.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, reproduce
from jaxlabs.runner.lab import Lab, Study

pytestmark = pytest.mark.usefixtures("here", "reused_executables", "quickly_compiled")

STUDY = (Path(__file__).parent / "fixtures" / "count.py").read_text()


@pytest.fixture
def mine(spirals, here):
    """A copy of the lab of the guide, `labs/spirals.py`, that a test may change."""
    (here / "labs").mkdir()
    return shutil.copy(spirals, here / "labs" / "spirals.py")


SHORT = ["--steps=4", "--eval_every=2", "--checkpoint_every=2", "--batch_size=8"]


def test_built_in_lab_is_found_by_its_name():
    lab = labs.load("char_rnn")
    assert dataclasses.asdict(lab.source) == {
        "source": "built-in",
        "name": "char_rnn",
        "path": None,
        "sha256": None,
    }
    assert dataclasses.replace(lab) == LAB


@pytest.mark.parametrize("name", ["gtp", ""])
def test_unknown_name_gives_the_nearest(name):
    with pytest.raises(UserError, match=r"unknown lab(; did you mean 'gpt'\?)?$"):
        labs.load(name)


def test_names_of_commands_are_reserved():
    assert {*labs.RESERVED} == {*commands.MODULES}


def test_all_labs_are_loaded_when_they_are_looked_up():
    every = labs.Labs()
    assert [*every] == labs.names()
    assert every["char_rnn"].name == "char_rnn"
    assert "char_rnn" in every
    assert "labs/char_rnn.py" not in every
    with pytest.raises(KeyError):
        every["rnn"]


def test_file_is_loaded_as_it_is_now(here):
    path = here / "count.py"
    path.write_text(STUDY)
    first = labs.load(path)
    path.write_text(STUDY.replace("Counts to three", "Counts to seven"))
    second = labs.load("count.py")
    assert isinstance(first, Study)
    assert [lab.description for lab in (first, second)] == ["Counts to three.", "Counts to seven."]
    assert first.source.path == second.source.path == str(path)
    assert first.source.sha256 != second.source.sha256


def test_file_imports_its_neighbors(here):
    (here / "numbers_of_mine.py").write_text("LAST = 3.0")
    text = STUDY.replace("3.0", "numbers_of_mine.LAST")
    (here / "count.py").write_text(f"import numbers_of_mine\n{text}")
    assert labs.load("count.py").measure(None, None).metrics == {"last": 3.0}


def test_neighbor_of_another_file_is_never_taken(here, monkeypatch):
    for folder in ("a", "b"):
        (here / folder).mkdir()
        (here / folder / "model_of_mine.py").write_text(f"LAST = {ord(folder)}.0")
        text = STUDY.replace("3.0", "layers_of_mine.LAST").replace("count", folder)
        (here / folder / f"lab_{folder}.py").write_text(f"import layers_of_mine\n{text}")
        # Only a neighbor imports the neighbor of the same name.
        name = f"layers_{folder}"
        (here / folder / f"{name}.py").write_text("from model_of_mine import LAST")
        lab = (here / folder / f"lab_{folder}.py").read_text().replace("layers_of_mine", name)
        (here / folder / f"lab_{folder}.py").write_text(lab)
    modules = dict(sys.modules)
    assert labs.load("a/lab_a.py").measure(None, None).metrics == {"last": 97.0}
    for loaded in (True, False):  # hidden in sys.modules; in sys.path alone
        if not loaded:
            monkeypatch.delitem(sys.modules, "model_of_mine")
        path = [*sys.path]
        with pytest.raises(UserError) as raised:
            labs.load("b/lab_b.py")
        beside, other = (here / folder / "model_of_mine.py" for folder in "ba")
        assert str(raised.value) == f"b/lab_b.py: {beside} is hidden by {other}; another name"
        assert sys.path == path
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(here / "a")])
    assert labs.load("b/lab_b.py").measure(None, None).metrics == {"last": 98.0}
    for name in sys.modules.keys() - modules.keys():
        if name.endswith(("_of_mine", "_a", "_b")):
            del sys.modules[name]


def test_failed_load_leaves_no_module_and_no_path(here):
    (here / "half_of_mine.py").write_text("LAST = 1.0")
    (here / "count.py").write_text(f"import half_of_mine\n{STUDY}\nSTUDY = 3")
    modules, path = set(sys.modules), [*sys.path]
    with pytest.raises(UserError, match="it defines neither"):
        labs.load("count.py")
    assert (set(sys.modules), sys.path) == (modules, path)
    (here / "half_of_mine.py").write_text("LAST = 23.0")
    (here / "count.py").write_text(
        f"import half_of_mine\n{STUDY}".replace("3.0", "half_of_mine.LAST")
    )
    assert labs.load("count.py").measure(None, None).metrics == {"last": 23.0}
    del sys.modules["half_of_mine"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "cannot be read (No such file or directory); the file of a lab is needed"),
        ("def f(:", "my_lab.py, line 1: SyntaxError: invalid syntax"),
        ("\nimport jaxlab", "my_lab.py, line 2: ModuleNotFoundError: No module named 'jaxlab'"),
        ("def f():\n  1 / 0\nf()", "my_lab.py, line 2: ZeroDivisionError: division by zero"),
        ("raise ValueError('a\\nb')", "my_lab.py, line 1: ValueError: a b"),
        ("x = 1", "my_lab.py: it defines neither LAB, a Lab, nor STUDY, a Study"),
        ("LAB = {}", "my_lab.py: it defines neither LAB, a Lab, nor STUDY, a Study"),
        (STUDY.replace('"count"', '"gpt"'), "my_lab.py: 'gpt' is the name of a built-in lab"),
        (STUDY.replace('"count"', '"check"'), "my_lab.py: 'check' is the name of a command; anot"),
        (STUDY.replace('"count"', '"a/b"'), "my_lab.py: the name 'a/b' is not accepted; letters"),
    ],
)
def test_file_without_a_lab_gives_one_line(text, line, here, capsys):
    if text is not None:
        (here / "my_lab.py").write_text(text)
    assert commands.run(["my_lab.py", "--steps=3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxlabs: ")
    assert line in error
    assert error.count("\n") == 1
    assert not (here / "runs").exists()


def test_lab_of_a_file_trains_resumes_and_notes_that_it_has_changed(mine, capsys):
    lab = labs.load("labs/spirals.py")
    assert isinstance(lab, Lab)
    assert cli.run(lab, SHORT) == 0
    folder = RunFolder("runs/spirals-quick")
    config = folder.read_config()
    assert config["lab"] == dataclasses.asdict(lab.source)
    assert config["command"] == f"jaxlabs labs/spirals.py {' '.join(SHORT)}"
    assert f">{config['command']}</pre>" in folder.report.read_text()
    whole = RunFolder(shutil.copytree(folder.path, "whole"))
    shutil.rmtree(folder.checkpoints / "4")
    (folder.path / "summary.json").unlink()
    capsys.readouterr()
    assert cli.run(lab, SHORT) == 0
    error = capsys.readouterr().err
    assert "resuming at step 2" in error
    assert "changed" not in error
    for name in ("parameters_sha256", "metrics"):
        assert folder.read_summary()[name] == whole.read_summary()[name]
    assert cli.run(labs.load_stored(config), ["--mode=evaluate"]) == 0
    assert "test_accuracy" in capsys.readouterr().out
    with open(mine, "a") as file:
        file.write("# a comment\n")
    assert cli.run(labs.load(mine), SHORT) == 0
    line = f"spirals: {mine} has changed since this run started\n"
    assert capsys.readouterr().err == line
    assert cli.run(labs.load(mine), ["--mode=evaluate"]) == 0
    assert capsys.readouterr().err == line


def test_reproduction_runs_files_beside_labs_and_keeps_them_in_the_table(mine, here, capsys):
    (here / "count.py").write_text(STUDY)
    suite = reproduce.suite({"char_rnn": LAB}, labs.load, labs.load_stored)
    assert cli.run(suite, ["--labs=count.py"]) == 0
    table = (here / "runs/reproduce-quick/results.md").read_text()
    assert "| `count`, quick | last |" in table
    assert "jaxlabs count.py" in table
    # Another command has the complete runs of files in its table; a missing file is reported.
    (here / "other.py").write_text(STUDY.replace('"count"', '"other"'))
    assert cli.run(suite, ["--labs=other.py"]) == 0
    table = (here / "runs/reproduce-quick/results.md").read_text()
    assert "| `count`, quick | last |" in table
    assert "| `other`, quick | last |" in table
    # A file that has changed is not executed unless it is named.
    (here / "count.py").write_text(f"print('executed')\n{STUDY}")
    capsys.readouterr()
    assert cli.run(suite, ["--labs=other.py"]) == 1
    captured = capsys.readouterr()
    assert "executed" not in captured.out
    assert f"count failed: --labs: {here / 'count.py'}, the file of the lab" in captured.err
    assert cli.run(suite, ["--labs=count.py,other.py"]) == 0
    assert capsys.readouterr().out.startswith("executed\n")
    (here / "count.py").rename("moved.py")
    assert cli.run(suite, ["--labs=moved.py,other.py"]) == 0
    assert cli.run(suite, ["--labs=other.py"]) == 1
    assert (
        f"{here / 'count.py'}, the file of the lab 'count', is missing" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("char_rnn.py", "char_rnn.py: cannot be read (No such file or directory)"),
        ("count.py,again.py", "--labs: again.py: another lab is named 'count'; another name"),
        ("chr_rnn", "--labs: 'chr_rnn' is not accepted; all, or some of char_rnn; did you mean"),
    ],
)
def test_reproduction_refuses_unknown_and_ambiguous_files(given, line, here, capsys):
    for name in ("count.py", "again.py"):
        (here / name).write_text(STUDY)
    suite = reproduce.suite({"char_rnn": LAB}, labs.load, labs.load_stored)
    assert cli.run(suite, [f"--labs={given}"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (here / "runs").exists()
