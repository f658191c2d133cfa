"""Commands with closed standard streams, and with streams or a locale that are not UTF-8."""

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxlabs
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, standard_streams

ROOT = os.path.dirname(os.path.dirname(jaxlabs.__file__))
TEXT = "Война и мир"

STREAMS = f"""
import os, sys
from jaxlabs.runner import standard_streams
standard_streams.make_usable()
assert os.open("data", os.O_CREAT | os.O_WRONLY) > 2  # no stream writes into this file
for stream in (sys.stdout, sys.stderr):
    print({TEXT!r}, file=stream, flush=True)
"""

STUDY = f"""
from jaxlabs.runner import cli
from jaxlabs.runner.lab import StudyResult, Study
from jaxlabs.training.run_config import CommonConfig
measure = lambda config, folder: StudyResult({{"sum": 1.0}}, {TEXT!r})
cli.main(Study(name="study", description={TEXT!r}, config_class=CommonConfig,
    presets={{"quick": {{}}}}, measure=measure))
"""


def started(program, redirections="", **environment):
    Path("program.py").write_text(program, encoding="utf-8")
    script = f"exec {sys.executable} program.py {redirections}"
    environment = os.environ | {"PYTHONPATH": ROOT} | environment
    return subprocess.run(["bash", "-c", script], capture_output=True, env=environment)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_stream_discards_output(closed, here):
    assert started(STREAMS, closed).returncode == 0
    assert (here / "data").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_unencodable_characters_are_printed_as_question_marks(encoding, here):
    ended = started(STREAMS, PYTHONIOENCODING=encoding)
    printed = (TEXT + "\n").encode(encoding, errors="replace")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, printed, printed)


@pytest.mark.parametrize(
    ("redirections", "environment"),
    [
        (">&- 2>&-", {}),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_command_succeeds_without_streams_or_utf_8(redirections, environment, here):
    ended = started(STUDY, f"--platform=cpu --workdir=run {redirections}", **environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout == b"" if redirections else ended.stdout.startswith(b"????? ? ???\n")
    folder = RunFolder("run")
    assert folder.is_complete()
    assert (folder.samples / "final.txt").read_text(encoding="utf-8").strip() == TEXT
    assert TEXT in folder.report.read_text(encoding="utf-8")


def test_summary_is_written_before_printing(tiny_flags, reused_executables, monkeypatch):
    lab = dataclasses.replace(LAB, sample=lambda *_: TEXT, analyze=lambda *_: {})
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    with pytest.raises(UnicodeEncodeError):
        cli.run(lab, [*tiny_flags, "--steps=0", "--platform=cpu", "--workdir=run"])
    assert RunFolder("run").is_complete()


def test_full_device_as_stdout_gives_one_line():
    ended = started(STUDY, "--help > /dev/full")
    assert ended.returncode == 2
    assert ended.stderr.decode() == "study: No space left on device\n"


class Output(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


def test_control_characters_of_a_sample_do_not_reach_a_terminal(monkeypatch):
    text = "\x1b[2J\x00a\tb\r\nc\rd\x9b\x7f\né\n"
    monkeypatch.setattr(sys, "stdout", Output(terminal=True))
    shown = "\\x1b[2J\\x00a\tb\r\nc\\x0dd\\x9b\\x7f\né\n"
    assert standard_streams.for_display(text) == shown
    monkeypatch.setattr(sys, "stdout", Output(terminal=False))
    assert standard_streams.for_display(text) == text
