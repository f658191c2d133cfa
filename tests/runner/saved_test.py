"""A checkpoint is reported as saved only after it is written."""

import dataclasses
import os
import signal

import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli, modes
from jaxlabs.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("reused_executables")


@pytest.fixture
def interrupted_run(tiny_flags, here, monkeypatch):
    """`interrupted_run() -> status` of a run that a signal interrupts at step 4/8."""

    def evaluated(progress, step, *rest):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("jaxlabs.training.metric_writer.Progress.evaluated", evaluated)
    lab = dataclasses.replace(LAB, sample=lambda *arguments: "a sample")
    return lambda: cli.run(lab, [*tiny_flags, "--steps=8", f"--workdir={here / 'run'}"])


def test_second_interrupt_during_a_checkpoint_does_not_report_it_as_saved(
    interrupted_run, monkeypatch, capsys
):
    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "__exit__", interrupted)
        assert interrupted_run() == 130
    assert "saved" not in "".join(capsys.readouterr())


def test_checkpoint_is_reported_as_saved_after_it_is_written(
    interrupted_run, monkeypatch, capsys, here
):
    close, closed = Checkpoints.__exit__, []

    def watched(self, *error):
        assert "saved" not in "".join(capsys.readouterr())
        close(self, *error)
        closed.append(True)

    monkeypatch.setattr(modes.Checkpoints, "__exit__", watched)
    interrupted_run()
    assert closed
    assert "saved" in "".join(capsys.readouterr())
    assert (here / "run" / "checkpoints" / "4").exists()
