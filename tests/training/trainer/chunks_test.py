"""Chunks, devices and their sizes do not change the result; what does not fit is refused."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.training import capacity
from jaxlabs.training.advance import step_inputs
from jaxlabs.training.capacity import TooLarge
from jaxlabs.training.matmul_flops import matmul_flops
from jaxlabs.training.trainer import Trainer


def test_flops_per_step_are_those_of_the_training_step(whole, make_task, make_data, make_config):
    result, _ = whole
    batch, key = step_inputs(make_data().train, 0, 0, make_config().batch_size)
    train_step = make_task(dropout=0.2).train_step
    counted = matmul_flops(lambda *arguments: train_step(*arguments), result.state, batch, key)
    assert result.flops_per_step == counted > 0


@pytest.mark.parametrize("steps_per_call", [1, 100])
def test_result_does_not_depend_on_the_chunk_size(resume, whole, steps_per_call, assert_same_run):
    assert_same_run(resume(steps_per_call=steps_per_call), whole)


def test_four_devices_equal_one(resume, whole, arrays):
    (ours, folder), (theirs, other_folder) = resume(devices=4), whole
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(ours.state)} == {4}
    chex.assert_trees_all_close(arrays(ours.state), arrays(theirs.state), rtol=1e-5, atol=1e-6)
    for row, other in zip(folder.read_metrics(), other_folder.read_metrics(), strict=True):
        np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-6)


def test_loop_compiles_once_for_chunks_of_different_sizes(resume, make_task, monkeypatch):
    task, traces, counts, train_chunk = make_task(), [], [], Trainer.train_chunk

    def train_step(*arguments):
        traces.append(1)
        return task.train_step(*arguments)

    def counted(self, state, until):
        counts.append(until - int(state.step))
        return train_chunk(self, state, until)

    monkeypatch.setattr(Trainer, "train_chunk", counted)
    resume(task=dataclasses.replace(task, train_step=train_step), steps=11)
    assert sum(counts) == 11
    assert len(set(counts)) > 1
    assert len(traces) == 2  # once for the shapes of the log, once for the executable


def test_slower_steps_make_shorter_chunks(resume, monkeypatch):
    counts, train_chunk = [], Trainer.train_chunk

    def timed(self, state, until):
        counts.append(until - int(state.step))
        state, _ = train_chunk(self, state, until)
        return state, 1e-3 if len(counts) < 4 else 1e7

    monkeypatch.setattr(Trainer, "train_chunk", timed)
    resume(steps=12, steps_per_call=3, eval_every=100, checkpoint_every=100)
    assert counts == [1, 3, 3, 3, 1, 1]


def test_step_that_does_not_fit_into_memory_is_refused_before_metrics_are_written(
    resume, monkeypatch
):
    result, folder = resume(steps=0, warmup_steps=0)
    folder.metrics.unlink()
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(result.state))
    # The state fits, but not the training data beside it.
    monkeypatch.setattr(capacity, "host_memory", lambda: jax.local_device_count() * state)
    with pytest.raises(TooLarge, match=r"^a training step needs"):
        resume()
    assert folder.read_metrics() == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"batch_size": 6},
            "batch_size: 6 does not divide over 4 devices x 1 micro-batches; a multiple of 4",
        ),
        (
            {"batch_size": 12, "grad_accum_steps": 2},
            "batch_size: 12 does not divide over 4 devices x 2 micro-batches; a multiple of 8",
        ),
        (
            {"eval_batch_size": 2},
            "eval_batch_size: 2 does not divide over 4 devices x 1 micro-batches; a multiple of 4",
        ),
    ],
)
def test_batch_that_does_not_divide_gives_one_line(resume, flags, message):
    with pytest.raises(UserError) as caught:
        resume(devices=4, **flags)
    assert str(caught.value) == message
