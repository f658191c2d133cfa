"""The command `jaxlabs`: the list, labs by name, commands, wrong names, and early signals."""

import argparse
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxlabs
from jaxlabs import commands, labs
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.runner import cli

ROOT = Path(__file__).parents[1]


def lines(capsys, arguments, status=0):
    """Returns the lines on stdout and stderr of a command that does not run a lab."""
    assert commands.run(arguments) == status
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_list_has_one_line_for_every_lab_and_command(arguments, capsys):
    out, err = lines(capsys, arguments)
    assert err == []
    assert "usage: jaxlabs LAB [flags]" in out[2]
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in out if line.startswith("  ")}
    assert list(labs.built_in()) == out_names(out, "labs")
    for name in labs.built_in():
        assert listed[name] == labs.load(name).description.splitlines()[0]
    assert "reproduce" in out_names(out, "commands")
    assert listed["reproduce"] == "Runs every lab and collects the results in one table."


def out_names(out, heading):
    entries = out[out.index(heading) + 1 :]
    return [line.split()[0] for line in entries[: [*entries, ""].index("")]]


def test_command_without_a_file_is_not_listed(monkeypatch, capsys):
    monkeypatch.setitem(commands.MODULES, "dream", "jaxlabs.runner.dream")
    assert "dream" not in out_names(lines(capsys, [])[0], "commands")
    assert "unknown lab or command" in lines(capsys, ["dream"], 2)[1][0]


def test_version(capsys):
    assert lines(capsys, ["--version"]) == ([f"jaxlabs {jaxlabs.__version__}"], [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gtp"], "jaxlabs: 'gtp': unknown lab or command; did you mean 'gpt'?"),
        (["reproduc"], "jaxlabs: 'reproduc': unknown lab or command; did you mean 'reproduce'?"),
        (["zzzzzz"], "jaxlabs: 'zzzzzz': unknown lab or command; jaxlabs lists all"),
        (["my_lab"], "jaxlabs: 'my_lab': unknown lab or command; did you mean 'my_lab.py'?"),
        (["--steps=3"], "jaxlabs: '--steps=3': the name of a lab or a command comes first"),
        ([""], "jaxlabs: '': unknown lab or command; jaxlabs lists all"),
    ],
)
def test_wrong_name_gives_one_line_and_the_nearest(arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lab.py").touch()
    assert lines(capsys, arguments, 2) == ([], [line])


COUNT = """
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

STUDY = Study(
    name="count", description="Counts.", config_class=CommonConfig, presets={"quick": {}},
    measure=lambda config, folder: StudyResult({"last": 3.0}, "1 2 3"),
)
"""


def test_lab_of_a_file_runs_in_another_folder(tmp_path):
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "count.py").write_text(COUNT)
    (tmp_path / "experiments").mkdir()  # a folder of the user
    ended = subprocess.run(
        [sys.executable, "-m", "jaxlabs", "labs/count.py", "--platform=cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("1 2 3\n")
    config = json.loads((tmp_path / "runs" / "count-quick" / "config.json").read_text())
    assert config["command"] == "python -m jaxlabs labs/count.py --platform=cpu"


@pytest.mark.parametrize("name", ["char_rnn", "reproduce", "benchmark"])
def test_name_and_flags_reach_the_lab(name, monkeypatch):
    ran = []
    monkeypatch.setattr(cli, "main", lambda lab, flags: ran.append((lab.name, flags)))
    commands.run([name, "--preset=quick", "--steps=3"])
    assert ran == [(name, ["--preset=quick", "--steps=3"])]


@pytest.fixture
def greet(monkeypatch):
    """A command `greet`, `--times=N NAME`."""

    def run(options: argparse.Namespace) -> int:
        if options.times < 1:
            raise ArgumentError("times", f"{options.times} is not accepted; at least 1")
        if options.name == "nobody":
            raise UserError("nobody is here")
        if options.name.startswith("runs/"):
            raise ArgumentError("name", f"{options.name} holds no run")
        print("hello " * options.times + options.name)
        return 1 if options.name == "stranger" else 0

    module = types.ModuleType("jaxlabs.runner.greet", "Greets.\n\nOnce or more.")
    module.run = run
    module.add_arguments = lambda parser: (
        parser.add_argument("name"),
        parser.add_argument("--times", type=int, default=1, help="number of greetings"),
    )
    module.__spec__ = types.SimpleNamespace(origin=__file__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(commands.MODULES, "greet", module.__name__)


@pytest.mark.parametrize(
    ("arguments", "status", "out", "err"),
    [
        (["ann", "--times=2"], 0, ["hello hello ann"], []),
        (["stranger"], 1, ["hello stranger"], []),
        (["nobody"], 2, [], ["jaxlabs greet: nobody is here"]),
        (["runs/x"], 2, [], ["jaxlabs greet: name: runs/x holds no run"]),
        (["ann", "--times=0"], 2, [], ["jaxlabs greet: --times: 0 is not accepted; at least 1"]),
    ],
)
def test_command_runs_and_its_errors_are_one_line(arguments, status, out, err, greet, capsys):
    assert lines(capsys, ["greet", *arguments], status) == (out, err)


@pytest.mark.parametrize("arguments", [[], ["ann", "--times=x"], ["ann", "--time=2"], ["ann", "b"]])
def test_invalid_arguments_of_a_command_give_one_line(arguments, greet, capsys):
    out, (line,) = lines(capsys, ["greet", *arguments], 2)
    assert out == []
    assert line.startswith("jaxlabs greet: ")
    assert line.endswith("; --help shows what is accepted")


def test_help_of_a_command_is_its_docstring_and_arguments(greet, capsys):
    out, err = lines(capsys, ["greet", "--help"])
    assert err == []
    assert out[0] == "usage: jaxlabs greet [-h] [--times TIMES] name"
    assert {"Greets.", "Once or more."} <= set(out)


def process(tmp_path, *arguments):
    """Starts a command whose import of JAX takes a minute."""
    (tmp_path / "jax.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SCRIPT = "import sys; sys.argv[0] = 'jaxlabs'; from jaxlabs.__main__ import main; main()"


@pytest.mark.parametrize("form", [["-m", "jaxlabs"], ["-c", SCRIPT]], ids=["module", "script"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_imports_exits_with_one_line(form, number, tmp_path):
    started = process(tmp_path, *form, "gpt")
    assert started.stdout.readline() == "ready\n"
    started.send_signal(number)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 128 + number
    assert error == "interrupted; run the same command to resume\n"


def test_closed_streams_are_opened_first(tmp_path):
    script = f"exec {sys.executable} -m jaxlabs gtp <&- >&-"
    ended = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "jaxlabs: 'gtp': unknown lab or command; did you mean 'gpt'?\n"
