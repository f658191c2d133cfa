"""Evaluation: every example once, the last batch padded with weight 0, one compiled shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.losses.parts import LossOutput
from jaxlabs.training import capacity
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


class Evaluator:
    """Evaluates a task; sets whose examples have the same shape share one compiled function."""

    def __init__(self, task: Task, placement: DataParallel, config: RunConfig):
        self.derive = task.derive
        self.batch_size = config.eval_batch_size
        self.key = keys.stream(config.seed, "evaluation")

        @jax.jit
        def parts_of(state: TrainState, batch: dict[str, jax.Array], key: jax.Array) -> LossOutput:
            batch = placement.shard_batch(batch)
            parts = task.loss(state.eval_params, batch, key, state, False)
            return parts._replace(updates=None, carry=None)

        self._parts = parts_of
        self._batch = jax.jit(
            functools.partial(eval_batch, batch_size=self.batch_size),
            out_shardings=placement.replicated,
        )

    def __call__(self, state: TrainState, examples: Examples) -> dict[str, float]:
        """Returns loss and further figures per unit of weight over all examples of the set.

        What the task derives from these means comes last. The averaged parameters are evaluated
        when the state keeps some. What a loss draws at random it draws alike in every evaluation.
        A set without weight gives nan, not a number made up.
        """
        self._require_memory(state, examples)
        parts = None
        for index in range(num_batches(examples, self.batch_size)):
            key = jax.random.fold_in(self.key, index)
            batch_parts = self._parts(state, self._batch(examples, index), key)
            parts = batch_parts if parts is None else jax.tree.map(jnp.add, parts, batch_parts)
        parts = jax.device_get(parts)
        figures = {"loss": parts.total} | parts.sums
        with np.errstate(invalid="ignore"):
            means = {name: float(figure / parts.weight) for name, figure in figures.items()}
        return means | self.derive(means)

    def _require_memory(self, state: TrainState, examples: Examples) -> None:
        """Raises TooLarge if a batch, or an array that the loss makes of it, does not fit."""
        gathered = self._batch.trace(examples, 0)
        capacity.require_state(gathered, "a batch to evaluate")
        evaluated = self._parts.trace(state, gathered.out_info, self.key)
        capacity.require_arrays(evaluated, "an evaluation")
