"""Tests of jaxlabs/training/metric_writer.py."""

import importlib.machinery
import importlib.util
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training.metric_writer import MetricsWriter, Progress, require_tracker

ROWS = [
    {"step": 2, "split": "train", "loss": 1.5, "accuracy": 0.25},
    {"step": 2, "split": "held_out", "loss": 1.75},
]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    return folder


def test_rows_are_appended_to_the_run_folder(folder):
    writer = MetricsWriter(folder, 0, enabled=True, tensorboard=False)
    for row in ROWS:
        writer.write([row])
    writer.close()
    assert folder.read_metrics() == ROWS
    assert not (folder.path / "tensorboard").exists()


@pytest.mark.parametrize("tensorboard", [False, True])
def test_disabled_writer_writes_nothing(folder, tensorboard):
    writer = MetricsWriter(folder, 0, enabled=False, tensorboard=tensorboard)
    writer.write(ROWS)
    writer.close()
    assert not folder.metrics.exists()
    assert not (folder.path / "tensorboard").exists()


def test_event_file_has_every_metric_of_every_row(folder):
    writer = MetricsWriter(folder, 0, enabled=True, tensorboard=True)
    writer.write(ROWS)
    writer.close()
    (path,) = (folder.path / "tensorboard").iterdir()
    events = read_events(path)
    # Events of a run that was killed before its first checkpoint are purged.
    assert any(event.HasField("session_log") and event.step == 0 for event in events)
    found = {
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    }
    assert found == {
        (2, "train/loss", 1.5),
        (2, "train/accuracy", 0.25),
        (2, "held_out/loss", 1.75),
    }


def read_events(path):
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:  # a record: length [8], its checksum [4], data, its checksum [4]
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_tracker_that_is_not_installed_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_tracker("none")
    with pytest.raises(UserError) as caught:
        require_tracker("trackio")
    line = "track: trackio is not installed; pip install 'jaxlabs[trackio]'"
    assert str(caught.value) == line


class Tracker(types.ModuleType):
    """A stand-in for trackio."""

    def __init__(self):
        super().__init__("trackio")
        self.logged, self.finished = [], False

    def init(self, project, *, name, config, resume, **_):
        print("* a message that must not be among the results")
        self.run = {"project": project, "name": name, "config": config, "resume": resume}
        return self

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        print("* another one")
        self.finished = True


def test_tracker_gets_every_metric_of_every_row(folder, monkeypatch, capsys):
    folder.write_config({"experiment": "gpt", "preset": "quick", "settings": {"seed": 3}})
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    writer = MetricsWriter(folder, 0, enabled=True, tensorboard=False, track="trackio")
    writer.write(ROWS)
    writer.close()
    assert folder.read_metrics() == ROWS
    name = folder.path.as_posix()
    settings = {"seed": 3}
    assert tracker.run == {"project": "gpt", "name": name, "config": settings, "resume": "allow"}
    assert tracker.logged == [
        (2, {"train/loss": 1.5, "train/accuracy": 0.25}),
        (2, {"held_out/loss": 1.75}),
    ]
    assert tracker.finished
    assert capsys.readouterr().out == ""


def test_run_in_a_relative_folder_has_one_name_from_everywhere(tmp_path, monkeypatch):
    tracker, names = Tracker(), []
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    for start, path in ((tmp_path, "runs/a"), (tmp_path / "runs", "a")):
        start.mkdir(exist_ok=True)
        monkeypatch.chdir(start)
        folder = RunFolder(path)
        folder.create()
        folder.write_config({"experiment": "gpt", "preset": "quick", "settings": {}})
        MetricsWriter(folder, 0, enabled=True, tensorboard=False, track="trackio").close()
        names.append(tracker.run["name"])
    assert names == [(tmp_path / "runs" / "a").as_posix()] * 2


def test_run_with_the_flag_is_tracked(spirals, tmp_path, monkeypatch):
    tracker = Tracker()
    tracker.__spec__ = importlib.machinery.ModuleSpec("trackio", None)
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    flags = ["--track=trackio", "--steps=2", "--log_every=1", f"--workdir={tmp_path / 'run'}"]
    assert cli.run(labs.load(spirals), flags) == 0
    assert tracker.run["project"] == "spirals"
    assert [step for step, _ in tracker.logged] == [0, 1, 2, 2]
    assert tracker.finished


REAL = """
import sqlite3, sys
from pathlib import Path
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.metric_writer import MetricsWriter
folder = RunFolder("runs/gpt-quick")
folder.create()
folder.write_config({"experiment": "gpt", "preset": "quick", "settings": {"seed": 3}})
for step in (0, 2):
    writer = MetricsWriter(folder, step, enabled=True, tensorboard=False, track="trackio")
    writer.write([{"step": step + 1, "split": "train", "loss": 1.5}])
    writer.close()
(path,) = Path("tracked").glob("*.db")
rows = sqlite3.connect(path).execute("select run_name, step, metrics from metrics").fetchall()
print(path.name, rows)
"""


def test_trackio_stores_a_run_and_continues_it(tmp_path):
    pytest.importorskip("trackio", reason="needs the extra 'trackio'")
    variables = os.environ | {"TRACKIO_DIR": str(tmp_path / "tracked")}
    root = Path(__file__).parents[2]
    variables["PYTHONPATH"] = os.pathsep.join([str(root), variables.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", REAL]
    options = {"cwd": tmp_path, "env": variables, "capture_output": True, "text": True}
    result = subprocess.run(command, check=True, **options)
    name = (tmp_path / "runs" / "gpt-quick").as_posix()
    rows = [(name, step, b'{"train/loss":1.5}') for step in (1, 3)]
    assert result.stdout.splitlines() == [f"gpt.db {rows}"]


def test_progress_without_a_terminal_prints_plain_lines(capsys):
    progress = Progress(100, 0, enabled=True)
    progress.advance(10, 1.5)
    row = {"loss": 2.0, "loss_stderr": 0.01234, "bits_per_byte": 2.885}
    progress.evaluated(10, {"held_out": row, "train_windows": row, "other": {"loss": 1.25}}, 4.5)
    progress.evaluated(100, {"held_out": {"loss": 1.0}}, 0.0)
    progress.close()
    assert capsys.readouterr() == (
        "",
        "step 10/100: held_out loss 2.0000 ± 0.0123 (2.8850 bits per byte), train_windows loss"
        " 2.0000 ± 0.0123, other loss 1.2500 (4.50 steps/s, 20 s left)\n"
        "step 100/100: held_out loss 1.0000\n",
    )


def test_disabled_progress_prints_nothing(capsys):
    progress = Progress(100, 0, enabled=False)
    progress.advance(10, 1.5)
    progress.print_line("a line")
    progress.evaluated(10, {"held_out": {"loss": 2.0}}, 4.5)
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal_starts_at_the_resumed_step(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(100, 40, enabled=True)
    progress.advance(20, 1.5)
    progress.print_line("a line above the bar")
    progress.close()
    text = capsys.readouterr().err
    assert "40/100" in text
    assert "60/100" in text
    assert "loss 1.5000" in text
    assert "a line above the bar\n" in text
