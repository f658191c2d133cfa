"""Interruptions do not change the result."""

import signal

import chex
import pytest

from jaxlabs.training import signals, trainer
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.signals import Interrupted


class StopBefore:
    """A stop request before the n-th chunk."""

    def __init__(self, monkeypatch, call):
        self.calls, self.call = 0, call
        original = trainer.sync_hosts
        sync = lambda size, stop: original(*self.at(size, stop))  # noqa: E731
        monkeypatch.setattr(trainer, "sync_hosts", sync)

    def at(self, size, stop):
        self.calls += 1
        return size, stop or self.calls == self.call


# Chunks of at most three steps, evaluations every four.
@pytest.mark.parametrize(("call", "step"), [(1, 0), (2, 1), (3, 4), (4, 7), (6, 11)])
def test_run_interrupted_anywhere_equals_an_unbroken_one(
    resume, whole, monkeypatch, call, step, assert_same_run
):
    stop = StopBefore(monkeypatch, call)
    interrupted, folder = resume()
    assert interrupted.interrupted
    assert int(interrupted.state.step) == step
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == step
    stop.call = 0
    resumed = resume()
    assert not resumed[0].interrupted
    assert int(resumed[0].state.step) == 12
    assert_same_run(resumed, whole)


# AdamW above, L-BFGS in full_batch_test.py.
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion", "muon"])
def test_run_of_every_optimizer_resumes_exactly(
    start, tmp_path, monkeypatch, optimizer, assert_same_run
):
    flags = {"optimizer": optimizer, "momentum": 0.9, "steps": 8}
    unbroken = start(tmp_path / "unbroken", **flags)
    stop = StopBefore(monkeypatch, 3)
    assert start(tmp_path / "broken", **flags)[0].interrupted
    stop.call = 0
    assert_same_run(start(tmp_path / "broken", **flags), unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_with_a_checkpoint_and_restores_the_handlers(
    resume, whole, number, assert_same_run
):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def sample(state):
        if int(state.step) == 8 and not sample.sent:
            sample.sent = True
            signal.raise_signal(number)
        return f"at {int(state.step)}"

    sample.sent = False
    result, folder = resume(sample=sample)
    assert result.interrupted
    assert int(result.state.step) == 8
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    resumed = resume(sample=sample)
    assert_same_run(resumed, whole)
    texts = {path.name: path.read_text() for path in folder.samples.iterdir()}
    assert texts == {f"step-{step:06d}.txt": f"at {step}" for step in (0, 4, 8, 12)}


def test_signal_in_the_last_evaluation_skips_the_final_ones(resume, whole, assert_same_run):
    def sample(state):
        if int(state.step) == 12 and not sample.sent:
            sample.sent = True
            signal.raise_signal(signal.SIGTERM)
        return f"at {int(state.step)}"

    sample.sent = False
    result, folder = resume(sample=sample)
    assert result.interrupted
    assert int(result.state.step) == 12
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 12
    assert_same_run(resume(sample=sample), whole)


def test_signal_in_the_evaluation_at_step_0_is_raised(resume, whole, assert_same_run):
    def sample(state):
        if not sample.sent:
            sample.sent = True
            signal.raise_signal(signal.SIGTERM)
        return ""

    sample.sent = False
    with pytest.raises(Interrupted), signals.listening():
        resume(sample=sample)
    assert_same_run(resume(sample=sample), whole)


def test_killed_run_resumes_from_its_checkpoint(resume, whole, assert_same_run):
    """`kill -9` between two checkpoints: later rows are removed and written again."""

    class Killed(BaseException):
        pass

    def sample(state):
        if int(state.step) == 8:
            raise Killed
        return ""

    with pytest.raises(Killed):
        resume(sample=sample, checkpoint_every=5)
    assert_same_run(resume(), whole)


def test_seconds_accumulate_after_a_resume(resume, monkeypatch):
    stop = StopBefore(monkeypatch, 4)
    first, _ = resume()
    stop.call = 0
    second, folder = resume()
    seconds = [row["seconds"] for row in folder.read_metrics() if "seconds" in row]
    assert seconds == sorted(seconds)
    assert second.seconds > first.seconds > 0


def test_complete_run_takes_no_further_step(resume, arrays):
    first, folder = resume()
    rows = folder.metrics.read_text()
    again, _ = resume()
    chex.assert_trees_all_equal(arrays(again.state), arrays(first.state))
    assert folder.metrics.read_text() == rows
