"""Many training steps in one compiled call."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.data.batches import batch_at
from jaxlabs.training.compiled import AotFunction
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.full_batch import build_full_batch_step
from jaxlabs.training.optimizers import FULL_BATCH, has_plateaued
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

MAX_SKIPPED = 10
"""Steps in a row that may be skipped as not finite before the run stops."""


def build_multi_step(task: Task, config: RunConfig, placement: DataParallel) -> AotFunction:
    """Returns `run_steps(state, dataset, count, seed) -> (state, log)`, one row of `log` a step.

    It stops early after `MAX_SKIPPED` skipped steps in a row, and where the optimizer says that it
    has converged. Rows past the last step are zeros.
    The seed is an argument so that runs which differ in it alone are one program.
    """
    capacity = config.steps_per_call

    whole_set = config.optimization.optimizer in FULL_BATCH
    train_step = build_full_batch_step(task.loss) if whole_set else task.train_step

    def one_step(state, dataset, seed):
        batch = batch_at(dataset, seed, state.step, config.batch_size)
        key = jax.random.fold_in(keys.stream(seed, "step"), state.step)
        return train_step(state, placement.shard_batch(batch), key)

    def run_steps(state: TrainState, dataset: Any, count: jax.Array, seed: jax.Array):
        shapes = jax.eval_shape(one_step, state, dataset, seed)[1]
        log = jax.tree.map(lambda leaf: jnp.zeros((capacity,), leaf.dtype), shapes)

        def unfinished(loop):
            taken, state, _ = loop
            going = (state.skipped < MAX_SKIPPED) & ~has_plateaued(state.opt_state)
            return (taken < count) & going

        def advance(loop):
            taken, state, log = loop
            state, metrics = one_step(state, dataset, seed)
            log = jax.tree.map(lambda rows, value: rows.at[taken].set(value), log, metrics)
            return taken + 1, state, log

        _, state, log = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), state, log))
        return state, log

    jitted = jax.jit(run_steps, donate_argnums=0, out_shardings=placement.replicated)
    return AotFunction(jitted)
