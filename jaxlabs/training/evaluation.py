"""Evaluation: every example once, the last batch padded with weight 0, one compiled shape."""

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, eval_batch, num_batches
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.loss_output import Batch, LossOutput
from jaxlabs.training import capacity, eval_budget
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

Windows = Mapping[str, jax.Array]
"""Sums over each window of a batch, `[batch]` each: `loss`, `weight` and, where known, `bytes`."""


class Evaluator:
    """Evaluates a task; sets with examples of equal shape share one compiled function."""

    def __init__(
        self,
        task: Task,
        placement: MeshSharding,
        config: RunConfig,
        data: DataModule | None = None,
    ):
        """Prepares the evaluation; the first call compiles it.

        Args:
          task: the lab's model and loss.
          placement: the mesh.
          config: the run's settings.
          data: the data of the run; windows of a text get a standard error, and bits per byte.
        """
        self.derived_metrics = task.derived_metrics
        self.batch_size = config.eval_batch_size
        self.key = keys.stream(config.seed, "evaluation")
        of_text = data is not None and bool(data.text_tokens)
        token_bytes = None if data is None else data.token_bytes

        @jax.jit
        def eval_step(
            state: TrainState, batch: Batch, key: jax.Array
        ) -> tuple[LossOutput, Windows | None]:
            batch = placement.shard_batch(batch)
            variables = state.variables(state.eval_params)

            def loss(weights):
                output = task.loss(
                    state.model, variables, {**batch, "weights": weights}, key, train=False
                )
                return output.loss_sum, output._replace(new_batch_stats=None, carry=None)

            weights = batch["weights"]
            if not of_text:
                return loss(weights)[1], None
            # The sum is linear in the weights: its derivative is the loss of each target. The
            # model does not depend on them, so there is no backward pass.
            losses, output = jax.grad(loss, has_aux=True)(weights)
            windows = {"loss": (losses * weights).sum(-1), "weight": weights.sum(-1)}
            if token_bytes is not None:
                sizes = jnp.asarray(token_bytes, jnp.int32)[batch["targets"]]
                windows["bytes"] = jnp.where(weights > 0, sizes, 0).sum(-1)
            return output, jax.lax.with_sharding_constraint(windows, placement.replicated)

        self._eval_step, self._devices = eval_step, placement.mesh.size
        self.cancelled = threading.Event()
        self._batch = jax.jit(
            functools.partial(eval_batch, batch_size=self.batch_size),
            out_shardings=placement.replicated,
        )

    def __call__(self, state: TrainState, examples: Examples) -> dict[str, float]:
        """Returns loss and metrics, means over all examples of the set by weight.

        The derived metrics of the task follow; for windows of a text `loss_stderr`, see
        `standard_error`, and `bits_per_byte`, the loss in bits per byte of the targets. The EMA
        parameters are evaluated if the state has them. The random numbers of a loss are the same
        in every evaluation and for every batch size, since each example has its key. A set of total
        weight 0 gives nan.

        Raises:
          CancelledError: another thread has set `cancelled`.
        """
        self._require_memory(state, examples)
        output, windows = None, []
        for index in range(num_batches(examples, self.batch_size)):
            if self.cancelled.is_set():
                raise CancelledError
            batch_output, batch_windows = self._step(state, examples, index)
            output = batch_output if output is None else jax.tree.map(jnp.add, output, batch_output)
            windows.append(batch_windows)
        output, windows = jax.device_get((output, windows))
        sums = {"loss": output.loss_sum} | output.metric_sums
        with np.errstate(invalid="ignore"):
            means = {name: float(value / output.weight_sum) for name, value in sums.items()}
        metrics = means | self.derived_metrics(means)
        if windows[0] is None:
            return metrics
        return metrics | _of_text(
            means["loss"],
            {name: np.concatenate([one[name] for one in windows]) for name in windows[0]},
        )

    def seconds_per_batch(self, state: TrainState, examples: Examples) -> float:
        """Returns the measured time of one batch, once it is compiled."""
        self._require_memory(state, examples)
        for _ in range(2):
            start = time.perf_counter()
            jax.block_until_ready(self._step(state, examples, 0))
        return time.perf_counter() - start

    def _step(
        self, state: TrainState, examples: Examples, index: int
    ) -> tuple[LossOutput, Windows | None]:
        return self._eval_step(state, self._batch(examples, index), self.key)

    def _require_memory(self, state: TrainState, examples: Examples) -> None:
        """Raises TooLarge if a batch, or an array of its loss, does not fit into memory."""
        gathered = self._batch.trace(examples, 0)
        capacity.require_state(gathered, "an evaluation batch")
        evaluated = self._eval_step.trace(state, gathered.out_info, self.key)
        capacity.require_arrays(evaluated, "an evaluation", self._devices)


def standard_error(losses: np.ndarray, weights: np.ndarray) -> float | None:
    """Returns the standard error of the mean loss over windows, taken as independent.

    With the sums `L` of the loss and `w` of the weights of each of n windows, the mean is
    `m = sum(L) / sum(w)`, and its standard error, that of a ratio estimator (Cochran 1977,
    Sampling Techniques, equation 6.13, without the correction for a finite population), is

        sqrt(n / (n - 1) * sum((L - m w)^2)) / sum(w)

    which for equal weights is the standard deviation of the means of the windows over sqrt(n).
    Neighboring windows are not quite independent, so it is a little too small.

    Args:
      losses: `[count]`, sum of the loss over each window.
      weights: `[count]`, sum of the weights; windows of weight 0 do not count.

    Returns:
      The standard error, or None for fewer than two windows.
    """
    losses, weights = (values[weights > 0].astype(np.float64) for values in (losses, weights))
    count = len(weights)
    if count < 2:
        return None
    residuals = losses - losses.sum() / weights.sum() * weights
    return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(weights.sum())


def _of_text(loss: float, windows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the standard error of a mean loss in nats, and the loss in bits per byte."""
    metrics = {}
    error = standard_error(windows["loss"], windows["weight"])
    if error is not None:
        metrics["loss_stderr"] = error
    if "bytes" in windows and (size := int(windows["bytes"].sum(dtype=np.int64))):
        tokens = float(windows["weight"].sum(dtype=np.float64))
        metrics["bits_per_byte"] = loss * tokens / size / math.log(2)
    return metrics


@dataclasses.dataclass(frozen=True)
class EvaluationCost:
    """What the evaluations of a run read, and about how long they take.

    Attributes:
      unit: what is counted: tokens of a text, else examples.
      times: number of evaluations during training.
      tokens: number of tokens, or examples, that each of them reads.
      final_tokens: likewise of the final evaluation.
      seconds: of all together, from the measured time of one batch.
      bytes: memory of the sets during training.
      final_bytes: memory of the sets of the final evaluation.
    """

    unit: str
    times: int
    tokens: int
    final_tokens: int
    seconds: float
    bytes: int
    final_bytes: int


class RunEvaluation:
    """The evaluations of a run: those during training, and the final one.

    Of a text beyond `windows.MAX_EVAL_TOKENS` an evaluation during training reads a fraction of the
    windows, see `eval_budget`; the final one reads all windows of all sets.

    Attributes:
      evaluated: after the final evaluation: for each set that `--eval_tokens` limits `tokens`, the
        number of its targets, and `of`, that of the whole text.
    """

    def __init__(
        self,
        task: Task,
        data: DataModule,
        config: RunConfig,
        placement: MeshSharding,
        tokens: int | None,
    ):
        """Copies the sets of the evaluations during training to the devices.

        Args:
          task: the lab's model and loss.
          data: the data of the run.
          config: the run's settings.
          placement: the mesh.
          tokens: tokens that an evaluation during training reads at most; None: all.
        """
        self._data, self._placement, self._tokens = data, placement, tokens
        self.evaluated: dict[str, dict[str, int]] = {}
        self._evaluator = Evaluator(task, placement, config, data)
        sets = eval_budget.subsample(data.eval_sets, data.monitor, tokens)
        # One by one: a dict would be returned in alphabetical order, but the first is monitored.
        self._sets = {split: placement.replicate(part) for split, part in sets.items()}

    def during_training(self, state: TrainState) -> dict[str, dict[str, float]]:
        """Returns the metrics of the evaluation sets, the monitored one first."""
        return {split: self._evaluator(state, part) for split, part in self._sets.items()}

    def cancel(self) -> None:
        """Ends an evaluation in another thread after its present batch."""
        self._evaluator.cancelled.set()

    def final(self, state: TrainState) -> dict[str, dict[str, float]]:
        """Returns the metrics of the further sets, and of those that were read in part before."""
        sets, found = self._final_sets(), {}
        for split, part in sets.items():
            found[split] = self._evaluator(state, self._placement.replicate(part))
        whole, sets = self._data.text_tokens, self._data.eval_sets | sets
        self.evaluated = {
            split: {"tokens": eval_budget.scored_tokens(sets[split]), "of": whole[split]}
            for split in whole
            if split in sets
        }
        return found

    def cost(self, state: TrainState, times: int) -> EvaluationCost:
        """Returns the cost of `times` evaluations during training and of the final one."""
        size, final = self._evaluator.batch_size, self._final_sets()
        first = self._sets[self._data.monitor]
        in_a_batch = size * self._size(first) / first.count
        seconds = self._evaluator.seconds_per_batch(state, first) / in_a_batch

        def padded(sets):
            return sum(
                num_batches(part, size) * size * self._size(part) / part.count
                for part in sets.values()
            )

        return EvaluationCost(
            unit="tokens" if self._data.text_tokens else "examples",
            times=times,
            tokens=sum(map(self._size, self._sets.values())),
            final_tokens=sum(map(self._size, final.values())),
            seconds=seconds * (times * padded(self._sets) + padded(final)),
            bytes=capacity.size_of(self._sets),
            final_bytes=capacity.size_of(final),
        )

    def _final_sets(self) -> dict[str, Examples]:
        """Builds the sets of the final evaluation."""
        again = {} if self._tokens is None else self._data.eval_sets
        return again | self._data.final_eval_sets()

    def _size(self, examples: Examples) -> int:
        """Returns the number of tokens of windows of a text, else that of examples."""
        return eval_budget.read_tokens(examples) if self._data.text_tokens else examples.count
