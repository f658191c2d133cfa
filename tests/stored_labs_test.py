"""Labs of stored runs: the file that config.json names is executed only if the user has run it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import jaxlabs as jl
from jaxlabs import commands, labs
from jaxlabs.config import UserError
from jaxlabs.labs.char_rnn.lab import LAB
from jaxlabs.runner import cli, reproduce

pytestmark = pytest.mark.usefixtures("here")

STUDY = (Path(__file__).parent / "fixtures" / "count.py").read_text()


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
