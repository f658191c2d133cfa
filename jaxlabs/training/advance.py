"""The fold of a run: from a state to the state of a later step, many steps in a compiled call."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlabs import keys
from jaxlabs.data.batches import TrainingData, batch_at
from jaxlabs.losses.loss_output import Batch
from jaxlabs.training.aot import AotFunction
from jaxlabs.training.capacity import ProgramMemory
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.feed import Feed
from jaxlabs.training.full_batch import build_full_batch_step
from jaxlabs.training.matmul_flops import count_flops
from jaxlabs.training.optimizers import has_plateaued
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task, is_full_batch

MAX_SKIPPED = 10
"""Consecutive non-finite steps, which are skipped, after which the run stops."""


class Advance:
    """`advance(state, until) -> (state, log)`: the training steps of a run, a pure function.

    Attributes:
      compile_seconds: time spent compiling so far.
    """

    def __init__(
        self,
        task: Task,
        config: RunConfig,
        placement: MeshSharding,
        dataset: TrainingData,
        steps: int | None = None,
    ):
        """Prepares the steps; `compile` or the first call compiles them.

        Args:
          task: the lab's model, loss and step.
          config: the run's settings.
          placement: the mesh.
          dataset: the training data.
          steps: number of steps; None: that of the settings.
        """
        self._task, self._config, self._placement = task, config, placement
        self._compiled: AotFunction | None = None
        self._feed = Feed(dataset, config, placement, steps)
        self._steps_per_call, self._seed = config.steps_per_call, np.uint32(config.seed)

    @property
    def compile_seconds(self) -> float:
        return 0.0 if self._compiled is None else self._compiled.compile_seconds

    @property
    def memory(self) -> ProgramMemory | None:
        """Memory of the compiled steps; None before, or where the platform reports none."""
        return None if self._compiled is None else self._compiled.memory

    def compile(self, state: TrainState) -> None:
        """Compiles the steps, unless they are; raises TooLarge if one does not fit into memory."""
        dataset, _ = self._feed.at(int(state.step))
        self._multi_step(state).compile(state, dataset, np.int32(1), self._seed)

    def __call__(self, state: TrainState, until: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Returns the state at step `until`, and the metrics `[steps taken]` of the steps, by name.

        It ends earlier after `MAX_SKIPPED` consecutive skipped steps, and when the optimizer has
        converged. The given state is donated.
        """
        logs, step = [], int(state.step)
        while step < until:
            dataset, end = self._feed.at(step)
            count = min(min(until, end) - step, self._steps_per_call)
            state, log = self._multi_step(state)(state, dataset, np.int32(count), self._seed)
            taken = int(state.step) - step
            logs.append({name: values[:taken] for name, values in jax.device_get(log).items()})
            step += taken
            if taken < count:
                break
        names = logs[0] if logs else ()
        return state, {name: np.concatenate([log[name] for log in logs]) for name in names}

    def flops_per_step(self, state: TrainState) -> float | None:
        """Returns the FLOPs of a step, see `matmul_flops`; None if a line search varies them."""
        dataset, _ = self._feed.at(max(int(state.step) - 1, 0))  # it is in memory
        return flops_per_step(
            self._multi_step(state).trace(state, dataset, np.int32(1), self._seed)
        )

    def _multi_step(self, state: TrainState) -> AotFunction:
        """Returns the compiled steps, whose shardings are those of the state."""
        if self._compiled is None:
            multi_step = build_multi_step(self._task, self._config, self._placement, state)
            self._compiled = AotFunction(multi_step, self._placement.mesh.size)
        return self._compiled


def flops_per_step(multi_step: jax.stages.Traced) -> float | None:
    """Returns the FLOPs of a step of a traced `multi_step`; None if a line search varies them."""
    equations = multi_step.jaxpr.eqns
    (loop,) = (equation for equation in equations if equation.primitive.name == "while")
    try:
        return count_flops(loop.params["body_jaxpr"].jaxpr)
    except ValueError:
        return None


def step_inputs(
    dataset: TrainingData, seed: int | jax.Array, step: int | jax.Array, batch_size: int
) -> tuple[Batch, jax.Array]:
    """Returns the batch and the key of the training step after `step` steps."""
    batch = batch_at(dataset, seed, step, batch_size)
    return batch, keys.at_step(seed, "step", step)


def injected_rate(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Returns the `learning_rate` of an optimizer with `optax.inject_hyperparams`, if it has one.

    The state after a step holds the rate of this step.
    """
    named = optax.tree.get_all_with_path(opt_state, "learning_rate")
    rates = [value for _, value in named if isinstance(value, jax.Array)]
    return {"learning_rate": rates[0]} if len(rates) == 1 else {}


def build_multi_step(
    task: Task, config: RunConfig, placement: MeshSharding, state: TrainState
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted `multi_step(state, dataset, count, seed) -> (state, log)`.

    `log` has the metrics of every step, `[steps_per_call]` each; entries past the last step are 0.
    The number of steps is an argument, so one executable takes any number up to the capacity; so
    is the seed, so that runs that differ only in the seed share one executable.

    Args:
      task: the lab's model, loss and step.
      config: the run's settings.
      placement: the mesh.
      state: a state, or its shapes.
    """
    capacity = config.steps_per_call
    full_batch = is_full_batch(task, config)
    train_step = build_full_batch_step(task.loss) if full_batch else task.step

    def one_step(state, dataset, seed):
        batch, key = step_inputs(dataset, seed, state.step, config.batch_size)
        state, metrics = train_step(state, placement.shard_batch(batch), key)
        rate = {} if task.optimizer is None else injected_rate(state.opt_state)
        return state, metrics | rate

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
            state = placement.shard_state(state)
            log = jax.tree.map(lambda rows, value: rows.at[taken].set(value), log, metrics)
            return taken + 1, state, log

        _, state, log = jax.lax.while_loop(cond, body, (jnp.int32(0), state, log))
        return state, log

    shardings = placement.state_shardings(state), placement.replicated
    return jax.jit(multi_step, donate_argnums=0, out_shardings=shardings)
