"""Tests of jaxlabs/training/metric_writer.py."""

import struct
import sys

import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training.metric_writer import MetricsWriter, Progress

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
    pytest.importorskip("tensorboardX", reason="needs the extra 'tensorboard'")
    from tensorboardX.proto.event_pb2 import Event

    writer = MetricsWriter(folder, 0, enabled=True, tensorboard=True)
    writer.write(ROWS)
    writer.close()
    (path,) = (folder.path / "tensorboard").iterdir()
    content, events = path.read_bytes(), []
    while content:  # a record: length [8], its checksum [4], data, its checksum [4]
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
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


def test_progress_without_a_terminal_prints_plain_lines(capsys):
    progress = Progress(100, 0, enabled=True)
    progress.advance(10, 1.5)
    progress.evaluated(10, {"held_out": 2.0, "train_and_val": 1.25}, 4.5)
    progress.evaluated(100, {"held_out": 1.0}, 0.0)
    progress.close()
    assert capsys.readouterr() == (
        "",
        "step 10/100: held_out loss 2.0000, train_and_val loss 1.2500 (4.50 steps/s, 20 s left)\n"
        "step 100/100: held_out loss 1.0000\n",
    )


def test_disabled_progress_prints_nothing(capsys):
    progress = Progress(100, 0, enabled=False)
    progress.advance(10, 1.5)
    progress.print_line("a line")
    progress.evaluated(10, {"held_out": 2.0}, 4.5)
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
