"""Several training steps in one compiled call."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.data.batches import batch_at
from jaxlabs.training.aot import AotFunction
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.full_batch import build_full_batch_step
from jaxlabs.training.optimizers import FULL_BATCH, has_plateaued
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

MAX_SKIPPED = 10
"""Consecutive non-finite steps, which are skipped, after which the run stops."""


def build_multi_step(task: Task, config: RunConfig, placement: DataParallel) -> AotFunction:
    """Returns `multi_step(state, dataset, count, seed) -> (state, log)`.

    `log` has the metrics of every step, `[steps_per_call]` each; entries past the last step are 0.
    The loop ends early after `MAX_SKIPPED` consecutive skipped steps, and when the optimizer has
    converged. The seed is an argument, so that runs that differ only in the seed share one
    executable.
    """
    capacity = config.steps_per_call

    full_batch = config.optimization.optimizer in FULL_BATCH
    train_step = build_full_batch_step(task.loss) if full_batch else task.train_step

    def one_step(state, dataset, seed):
        batch = batch_at(dataset, seed, state.step, config.batch_size)
        key = jax.random.fold_in(keys.stream(seed, "step"), state.step)
        return train_step(state, placement.shard_batch(batch), key)

    def multi_step(state: TrainState, dataset: Any, count: jax.Array, seed: jax.Array):
        shapes = jax.eval_shape(one_step, state, dataset, seed)[1]
        log = jax.tree.map(lambda leaf: jnp.zeros((capacity,), leaf.dtype), shapes)

        def cond(loop):
            taken, state, _ = loop
            diverged = state.skipped >= MAX_SKIPPED
            return (taken < count) & ~diverged & ~has_plateaued(state.opt_state)

        def body(loop):
            taken, state, log = loop
            state, metrics = one_step(state, dataset, seed)
            log = jax.tree.map(lambda rows, value: rows.at[taken].set(value), log, metrics)
            return taken + 1, state, log

        _, state, log = jax.lax.while_loop(cond, body, (jnp.int32(0), state, log))
        return state, log

    jitted = jax.jit(multi_step, donate_argnums=0, out_shardings=placement.replicated)
    return AotFunction(jitted)
