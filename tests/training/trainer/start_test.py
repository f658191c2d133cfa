"""The evaluation at step 0 runs while the training step compiles."""

import threading
import time

import jax
import pytest

from jaxlabs.training import jax_settings
from jaxlabs.training.advance import Advance
from jaxlabs.training.evaluation import Evaluator, RunEvaluation

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="one after another there")


def test_new_run_is_evaluated_while_the_step_compiles(resume, monkeypatch):
    started, settings = threading.Event(), []
    compile_step, evaluate = Advance.compile, RunEvaluation.during_training

    def compile_later(self, state):
        assert started.wait(60)
        compile_step(self, state)

    def recorded(self, state):
        started.set()
        settings.append(jax_settings.of_this_thread())
        return evaluate(self, state)

    monkeypatch.setattr(Advance, "compile", compile_later)
    monkeypatch.setattr(RunEvaluation, "during_training", recorded)
    with jax.default_matmul_precision("highest"):
        result, folder = resume(steps=4)
        assert settings[0] == jax_settings.of_this_thread()
    assert folder.read_metrics()[0]["step"] == 0
    assert result.evaluation_seconds > 0


def test_final_evaluation_counts_as_evaluation(resume, monkeypatch):
    monkeypatch.setattr(RunEvaluation, "final", lambda *_: time.sleep(0.5) or {})
    result, _ = resume(steps=0, warmup_steps=0)
    assert result.evaluation_seconds > 0.5


def test_error_while_the_step_compiles_ends_the_evaluation(resume, monkeypatch):
    batches, step = [], Evaluator._step

    def slow(self, *arguments):
        batches.append(1)
        time.sleep(0.01)
        return step(self, *arguments)

    def fails(self, state):
        batches.clear()
        raise RuntimeError("too large")

    monkeypatch.setattr(Evaluator, "_step", slow)
    monkeypatch.setattr("jaxlabs.training.evaluation.num_batches", lambda *_: 1000)
    monkeypatch.setattr(Advance, "compile", fails)
    with pytest.raises(RuntimeError, match="too large"):
        resume(steps=4)
    assert len(batches) < 100
