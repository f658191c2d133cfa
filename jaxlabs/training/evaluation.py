"""Evaluation: every example once, the last batch padded with weight 0, one compiled shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.losses.loss_output import Batch, LossOutput
from jaxlabs.training import capacity
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


class Evaluator:
    """Evaluates a task; sets with examples of equal shape share one compiled function."""

    def __init__(self, task: Task, placement: DataParallel, config: RunConfig):
        self.derived_metrics = task.derived_metrics
        self.batch_size = config.eval_batch_size
        self.key = keys.stream(config.seed, "evaluation")

        @jax.jit
        def eval_step(state: TrainState, batch: Batch, key: jax.Array) -> LossOutput:
            batch = placement.shard_batch(batch)
            variables = state.variables(state.eval_params)
            output = task.loss(state.model, variables, batch, key, train=False)
            return output._replace(new_batch_stats=None, carry=None)

        self._eval_step = eval_step
        self._batch = jax.jit(
            functools.partial(eval_batch, batch_size=self.batch_size),
            out_shardings=placement.replicated,
        )

    def __call__(self, state: TrainState, examples: Examples) -> dict[str, float]:
        """Returns loss and metrics, means over all examples of the set by weight.

        The derived metrics of the task follow. The EMA parameters are evaluated if the state has
        them. The random numbers of a loss are the same in every evaluation. A set of total weight
        0 gives nan.
        """
        self._require_memory(state, examples)
        output = None
        for index in range(num_batches(examples, self.batch_size)):
            key = jax.random.fold_in(self.key, index)
            batch_output = self._eval_step(state, self._batch(examples, index), key)
            output = batch_output if output is None else jax.tree.map(jnp.add, output, batch_output)
        output = jax.device_get(output)
        sums = {"loss": output.loss_sum} | output.metric_sums
        with np.errstate(invalid="ignore"):
            means = {name: float(value / output.weight_sum) for name, value in sums.items()}
        return means | self.derived_metrics(means)

    def _require_memory(self, state: TrainState, examples: Examples) -> None:
        """Raises TooLarge if a batch, or an array of its loss, does not fit into memory."""
        gathered = self._batch.trace(examples, 0)
        capacity.require_state(gathered, "an evaluation batch")
        evaluated = self._eval_step.trace(state, gathered.out_info, self.key)
        capacity.require_arrays(evaluated, "an evaluation")
