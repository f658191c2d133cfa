"""Labs by name, by entry point and by the path of a file."""

import dataclasses
import hashlib
import importlib
import json
import shutil
import sys

import pytest

import jaxlabs as jl
from jaxlabs import commands, labs
from jaxlabs.config import UserError
from jaxlabs.labs.char_rnn.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, reproduce
from jaxlabs.runner.lab import Lab, Study

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

STUDY = '''
"""Counts to three."""
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

STUDY = Study(
    name="count", description=__doc__, config_class=CommonConfig, presets={"quick": {}},
    measure=lambda config, folder: StudyResult({"last": 3.0}, "1 2 3"),
)
'''


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


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
    assert "test/accuracy" in capsys.readouterr().out
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
    (here / "count.py").write_text(f"print('executed'){STUDY}")
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


@pytest.fixture
def package(here, monkeypatch):
    """`package(text, *lines)`: installs a package `counting` with entry points."""

    def install(text, *lines):
        site = here / "site"
        info = site / "counting-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{labs.GROUP}]", *lines]))
        (site / "counting").mkdir()
        (site / "counting" / "__init__.py").touch()
        (site / "counting" / "labs.py").write_text(text)
        sys.path.insert(0, str(site))

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "counting"]:
        del sys.modules[name]


@pytest.mark.parametrize("value", ["counting.labs", "counting.labs:STUDY"])
def test_lab_of_another_package_is_found_by_its_entry_point(value, package, here, capsys):
    package(STUDY, f"count = {value}", "gpt = counting.labs")
    assert labs.names() == [*labs.built_in(), "count"]
    assert commands.run([]) == 0
    assert "\n  count               Counts to three.\n" in capsys.readouterr().out
    assert "counting" not in sys.modules
    assert labs.load("gpt").source.source == "built-in"
    lab = labs.load("count")
    assert cli.run(lab, []) == 0
    config = RunFolder("runs/count-quick").read_config()
    assert config["command"] == "jaxlabs count"
    assert config["lab"] == {
        "source": "entry point",
        "name": "count",
        "path": str(here / "site" / "counting" / "labs.py"),
        "sha256": lab.source.sha256,
    }
    assert labs.load_stored(config).source == lab.source


@pytest.mark.parametrize(
    ("text", "entry", "line"),
    [
        (STUDY, "number = counting.labs", "its lab is named 'count'; both need the same name"),
        ("import jaxlab", "count = counting.labs", "ModuleNotFoundError: No module named 'jaxlab'"),
        ("x = 1", "count = counting.labs:x", "it defines neither LAB, a Lab, nor STUDY, a Study"),
        (STUDY, "count = counting.labs:LAB", "AttributeError: module 'counting.labs' has no"),
    ],
)
def test_entry_point_without_a_lab_gives_one_line(text, entry, line, package, capsys):
    package(text, entry)
    name = entry.partition(" ")[0]
    assert commands.run([name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxlabs: '{name}' of counting: {line}")
    assert error.count("\n") == 1


def test_broken_package_and_reserved_name_leave_the_list_of_labs(package, here, capsys):
    package("def f(:", "broken = counting.labs", "gone = counting.none", "check = counting.labs")
    assert commands.run([]) == 0
    listed = capsys.readouterr().out
    assert "\n  broken              a lab of counting\n" in listed
    assert "\n  gone                a lab of counting\n" in listed
    line = "a lab of counting, which cannot run: check is a command"
    assert f"\n  check               {line}\n" in listed
    with pytest.raises(UserError, match=r"^'check' of counting: the name of a command; another"):
        labs.load("check")


def test_names_of_commands_are_reserved():
    assert {*labs.RESERVED} == {*commands.MODULES}


def test_lab_of_a_package_without_a_file_is_loaded(package, monkeypatch):
    package(STUDY, "count = counting.labs")
    module = importlib.import_module("counting.labs")
    for file in (None, "/packages.zip/counting/labs.py"):
        monkeypatch.setattr(module, "__file__", file)
        lab = labs.load("count")
        assert (lab.source.path, lab.source.sha256) == (None, None)


@pytest.fixture
def stranger(here):
    """A run folder of somebody else, whose config.json names a file that writes `marker`."""
    folder = here / "hostile"
    (folder / "samples").mkdir(parents=True)
    file = folder / "samples" / "notes.txt"
    file.write_text(f"open({str(here / 'marker')!r}, 'w').close()\n{STUDY}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    lab = {"source": "file", "name": "count", "path": str(file), "sha256": digest}
    config = {"experiment": "count", "preset": "quick", "settings": {}, "lab": lab}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    return folder


SUMMARY = {
    "experiment": "count",
    "preset": "quick",
    "metrics": {"last": 3.0},
    "comparison": [],
    "environment": {},
    "seconds": 1.0,
}


@pytest.mark.parametrize("relative", [False, True])
def test_file_that_a_run_folder_names_is_not_executed(relative, stranger, here, capsys):
    if relative:
        config = json.loads((stranger / "config.json").read_text())
        config["lab"]["path"] = "hostile/samples/notes.txt"
        (stranger / "config.json").write_text(json.dumps(config))
    reason = "is code that you have not run as it is now; pass its path if you trust it"
    for read in (jl.load_run, lambda path: jl.compare([path])):
        with pytest.raises(ValueError, match=reason):
            read(stranger)
    assert commands.run(["compare", str(stranger)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxlabs compare: --lab: ")
    assert error.count("\n") == 1
    (here / "mine.py").write_text(STUDY.replace('"count"', '"mine"'))
    assert run_suite(["--labs=mine.py", "--workdir=suite"]) == 0
    shutil.copytree(stranger, here / "suite" / "runs" / "count" / "seed=0")
    assert run_suite(["--labs=mine.py", "--workdir=suite"]) == 1
    assert reason in capsys.readouterr().err
    assert not (here / "marker").exists()


def run_suite(flags):
    return cli.run(reproduce.suite({"char_rnn": LAB}, labs.load, labs.load_stored), flags)


def test_file_is_executed_for_a_stored_run_once_the_user_has_run_it(stranger, here):
    path = stranger / "samples" / "notes.txt"
    assert jl.load_run(stranger, lab=path).lab.name == "count"
    assert (here / "marker").exists()
    assert jl.load_run(stranger).lab.name == "count"
    path.write_text(path.read_text() + "# changed")
    with pytest.raises(ValueError, match="is code that you have not run as it is now"):
        jl.load_run(stranger)


def test_lab_of_another_name_than_the_run_is_refused(stranger, here):
    (here / "other.py").write_text(STUDY.replace('"count"', '"other"'))
    with pytest.raises(ValueError, match=r"^lab: 'other' is not accepted; 'count', the lab of"):
        jl.load_run(stranger, lab="other.py")
    config = json.loads((stranger / "config.json").read_text()) | {"experiment": "other"}
    (stranger / "config.json").write_text(json.dumps(config))
    labs.load(stranger / "samples" / "notes.txt")
    with pytest.raises(ValueError, match=r"^lab: 'count' is not accepted; 'other', the lab of"):
        jl.load_run(stranger)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"init_from": "x"}, r"config.json: damaged \(its 'init_from' is not an object\)"),
        ({"compiler_flags": []}, r"config.json: damaged \(its 'compiler_flags' is not an object\)"),
        ({"optimizer": {}}, r"config.json: damaged \(its 'optimizer' is not a string\)"),
        ({"sweep": "widths"}, r"hostile: the sweep widths; the folder of one of its runs in"),
        ({"experiment": "reproduce"}, "'reproduce' wrote this folder; that of a run of a lab is"),
    ],
)
def test_folder_without_a_run_of_a_lab_says_what_it_is(entry, line, stranger):
    config = json.loads((stranger / "config.json").read_text()) | entry
    (stranger / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=line):
        jl.load_run(stranger)


@pytest.mark.parametrize("name", ["reproduce", "benchmark"])
def test_folder_of_a_command_is_no_run_of_a_lab(name):
    line = f"{name!r} wrote this folder; that of a run of a lab is needed"
    with pytest.raises(UserError, match=line):
        labs.load_stored({"experiment": name})


@pytest.mark.parametrize("stored", [{}, {"lab": {"source": "built-in", "name": "char_rnn"}}])
def test_stored_run_of_a_built_in_lab_has_its_lab(stored):
    assert labs.load_stored({"experiment": "char_rnn"} | stored).name == "char_rnn"


@pytest.mark.parametrize(
    ("stored", "line"),
    [
        ({}, "lab: 'mine', the lab of this run, is not installed; pass the lab itself or the"),
        ({"lab": {"source": "entry point"}}, "lab: 'mine', the lab of this run, is not installed"),
        (
            {"lab": {"source": "file", "path": "/x.py"}},
            "lab: /x.py, the file of the lab 'mine', is",
        ),
        ({"lab": {"source": "file"}}, "lab: None, the file of the lab 'mine', is missing; pass"),
    ],
)
def test_stored_run_whose_lab_is_gone_says_what_to_pass(stored, line):
    with pytest.raises(UserError) as raised:
        labs.load_stored(json.loads(json.dumps({"experiment": "mine"} | stored)))
    assert str(raised.value).startswith(line)
