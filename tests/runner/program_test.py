"""The command in help and messages is the one that the user typed."""

import sys
import types

import pytest

from jaxlabs.benchmark.lab import STUDY
from jaxlabs.labs.char_rnn.lab import LAB
from jaxlabs.runner import cli, program
from jaxlabs.runner.lab_source import BUILT_IN, ENTRY_POINT, FILE, LabSource

FORMS = {
    "experiments.char_rnn": "python -m experiments.char_rnn",
    "experiments.reproduce": "python -m experiments.char_rnn",
    "jaxlabs.__main__": "python -m jaxlabs char_rnn",
    "pytest.__main__": "jaxlabs char_rnn",
    None: "jaxlabs char_rnn",
}


@pytest.fixture
def started_as(monkeypatch):
    """`started_as(module)`: makes this process one of `python -m module`; None: of a script."""

    def start(module):
        main = types.ModuleType("__main__")
        main.__spec__ = None if module is None else types.SimpleNamespace(name=module)
        monkeypatch.setitem(sys.modules, "__main__", main)

    return start


@pytest.mark.parametrize("module", FORMS)
def test_built_in_lab_has_the_typed_form(module, started_as, capsys):
    started_as(module)
    for lab in (LAB, LAB.with_source(LabSource(BUILT_IN, "char_rnn"))):
        assert program.command(lab) == FORMS[module]
    assert cli.run(LAB, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: {FORMS[module]} [flags]\n" in shown
    assert f"Command   {FORMS[module]} --platform=cpu\n" in shown


@pytest.mark.parametrize(
    ("module", "before"),
    [
        ("experiments.reproduce", "python -m jaxlabs"),
        ("jaxlabs.__main__", "python -m jaxlabs"),
        (None, "jaxlabs"),
    ],
)
def test_lab_of_a_file_is_named_by_its_path(module, before, started_as, tmp_path, monkeypatch):
    started_as(module)
    monkeypatch.chdir(tmp_path)

    def command(path):
        return program.command(LAB.with_source(LabSource(FILE, "mine", str(path))))

    assert command(tmp_path / "labs" / "mine.py") == f"{before} labs/mine.py"
    assert command(tmp_path / "my labs" / "mine.py") == f"{before} 'my labs/mine.py'"
    outside = tmp_path.parent / "mine.py"
    assert command(outside) == f"{before} {outside}"


def test_entry_point_and_benchmark_are_named_by_their_name(started_as):
    started_as("experiments.reproduce")
    entry = LAB.with_source(LabSource(ENTRY_POINT, "char_rnn", "/x.py", "0"))
    assert program.command(entry) == "python -m jaxlabs char_rnn"
    assert program.command(STUDY) == "python -m experiments.benchmark"


def test_messages_name_the_typed_form(started_as):
    text = "train one with python -m experiments.mnist_classifier --workdir=x"
    started_as("experiments.ddpm")
    assert program.with_typed_commands(text) == text
    started_as(None)
    found = "train one with jaxlabs mnist_classifier --workdir=x"
    assert program.with_typed_commands(text) == found
