"""A checkpoint is said to be saved once it is."""

import dataclasses
import os
import signal

import pytest

from experiments.gpt import LAB
from jaxlabs import command, modes
from jaxlabs.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("reused_executables")


@pytest.fixture
def stopped_midway(tiny_flags, here, monkeypatch):
    """`stopped_midway() -> status` of a run that a first signal stops at step 4 of 8."""

    def evaluated(progress, step, *rest):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("jaxlabs.training.metrics.Progress.evaluated", evaluated)
    lab = dataclasses.replace(LAB, sample=lambda *arguments: "a sample")
    return lambda: command.run(lab, [*tiny_flags, "--steps=8", f"--workdir={here / 'run'}"])


def test_second_interrupt_while_a_checkpoint_is_written_claims_nothing(
    stopped_midway, monkeypatch, capsys
):
    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "__exit__", interrupted)
        assert stopped_midway() == 130
    assert "saved" not in "".join(capsys.readouterr())


def test_saved_is_said_when_the_checkpoint_is_there(stopped_midway, monkeypatch, capsys, here):
    close, closed = Checkpoints.__exit__, []

    def watched(self, *error):
        assert "saved" not in "".join(capsys.readouterr())
        close(self, *error)
        closed.append(True)

    monkeypatch.setattr(modes.Checkpoints, "__exit__", watched)
    stopped_midway()
    assert closed
    assert "saved" in "".join(capsys.readouterr())
    assert (here / "run" / "checkpoints" / "4").exists()
