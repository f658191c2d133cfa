"""Training a run: compiled chunks of steps, with evaluation, logging and checkpoints between."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.training import jax_settings, signals
from jaxlabs.training.advance import MAX_SKIPPED, Advance
from jaxlabs.training.callbacks import call_back
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import MeshSharding, is_main_process, state_to_host, sync_hosts
from jaxlabs.training.evaluation import RunEvaluation
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.metric_writer import MetricsWriter, Progress, losses_of
from jaxlabs.training.needs import needs
from jaxlabs.training.optimizer_config import divergence_flags
from jaxlabs.training.optimizers import has_plateaued
from jaxlabs.training.pretrained import Weights, describe, load_weights
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.schedules import build_schedule, lr_at
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import nonfinite_names
from jaxlabs.training.task import Callback, Task, require_trainable

Metrics = dict[str, dict[str, float]]
"""Metrics of an evaluation, by split."""

CHUNK_SECONDS = 3.0
"""Target duration of a chunk: short enough for signals, long beside the overhead of a call."""


def next_chunk_size(size: int, elapsed: float) -> int:
    """Returns the number of steps of the next chunk, after `size` steps in `elapsed` seconds."""
    return max(1, min(8 * size, int(size * CHUNK_SECONDS / max(elapsed, 1e-6))))


class NonFiniteError(UserError):
    """The loss, gradient or update was not finite for `MAX_SKIPPED` consecutive steps."""


@dataclasses.dataclass
class TrainResult:
    """Result of training.

    Attributes:
      state: the last state.
      interrupted: whether a signal ended the training, after a checkpoint and without the final
        evaluations.
      seconds: training time of all processes of the run so far, without compilation and
        evaluation.
      compile_seconds: compilation time of the training step in this process.
      evaluation_seconds: time of evaluations and their samples in this process.
      final_metrics: metrics of the final evaluations, `<split>_<metric>`; empty if interrupted.
      evaluated: for each evaluation set of a text that `--eval_tokens` limits, `tokens`, the number
        of its targets, and `of`, that of the whole text; empty if interrupted.
      flops_per_step: FLOPs of the matmuls and convolutions of a step; None if they vary from step
        to step, or if interrupted.
    """

    state: TrainState
    interrupted: bool
    seconds: float
    compile_seconds: float
    evaluation_seconds: float
    final_metrics: dict[str, float]
    evaluated: dict[str, dict[str, int]]
    flops_per_step: float | None


def require_divides(config: RunConfig, placement: MeshSharding) -> None:
    """Raises UserError unless batches split evenly over micro-batches and devices."""
    placement.require_divides(config.batch_size, config.optimization.grad_accum_steps, "batch_size")
    placement.require_divides(config.eval_batch_size, 1, "eval_batch_size")


@dataclasses.dataclass
class Trainer:
    """Trains a run in its folder.

    Attributes:
      task: the lab's model, loss and step.
      data: training and evaluation data.
      config: the run's settings.
      placement: the mesh.
      folder: run folder for metrics and samples.
      checkpoints: the checkpoints of the folder, open for writing.
      metadata: JSON to save with every checkpoint.
      sample: `state -> sample`, written to samples/ after each evaluation; the state is on the
        host. None: no samples.
      callbacks: see `Lab.callbacks`.
      read_weights: reads the weights of `--init_from`, for a new run.
      tokens_per_evaluation: see `eval_budget`; None: all evaluation sets are read as a whole.
    """

    task: Task
    data: DataModule
    config: RunConfig
    placement: MeshSharding
    folder: RunFolder
    checkpoints: Checkpoints
    metadata: dict[str, Any]
    sample: Callable[[TrainState], Sample] | None = None
    callbacks: Sequence[Callback] = ()
    read_weights: Callable[[], Weights] | None = None
    tokens_per_evaluation: int | None = None

    def train(self) -> TrainResult:
        """Trains from the newest checkpoint, or from step 0, to the last step.

        Raises:
          NonFiniteError: too many consecutive steps were not finite; the checkpoints are from
            before.
          UserError: the batch does not divide over devices and micro-batches, or the optimizer
            cannot train the task.
        """
        task, config, placement = self.task, self.config, self.placement
        require_divides(config, placement)
        require_trainable(task, config, self.data.train)
        state = initial_state(task, config, placement, weights=self._weights())
        state = self.checkpoints.restore(state) or state
        step, main = int(state.step), is_main_process()
        if main:
            self.folder.drop_after(step)
        self._advance = Advance(task, config, placement, self.data.train)
        self._evaluation = RunEvaluation(
            task, self.data, config, placement, self.tokens_per_evaluation
        )
        self._schedule = build_schedule(config.optimization, config.steps)
        times = [row.get("seconds") for row in self.folder.read_metrics()]
        self._seconds = next((seconds for seconds in reversed(times) if seconds is not None), 0.0)
        self._evaluation_seconds, self._speed, self._chunks = 0.0, 0.0, 0
        mirrors = {"tensorboard": config.tensorboard, "track": config.track}
        writer = MetricsWriter(self.folder, step, enabled=main, **mirrors)
        progress = Progress(config.steps, step, enabled=main)
        self._writer, self._progress = writer, progress
        with contextlib.closing(writer), contextlib.closing(progress):
            if step:
                progress.print_line(f"resuming at step {step}")
            return self._run(state)

    def _weights(self) -> Mapping[str, np.ndarray]:
        """Returns the weights to start from, and prints what is taken; none for a resumed run."""
        path = self.config.init_from
        if path is None or self.checkpoints.steps():
            return {}
        weights = self.read_weights() if self.read_weights else load_weights(path)
        variables = jax.eval_shape(self.task.init, jax.random.key(0))
        for line in describe(variables["params"], weights.arrays):
            if is_main_process():
                print(f"--init_from: {line}", file=sys.stderr)
        return weights.arrays

    def _run(self, state: TrainState) -> TrainResult:
        config, step, size = self.config, int(state.step), 1
        last = self._is_last(state)
        loss = self._start(state, last=last)
        with signals.deferred() as stop:
            while True:
                size, stopping = sync_hosts(size, stop())
                if stopping or last:
                    break
                boundary = min(
                    _next_multiple(step, config.eval_every),
                    _next_multiple(step, config.checkpoint_every),
                    config.steps,
                )
                count = min(size, boundary - step, config.steps_per_call)
                state, elapsed = self.train_chunk(state, step + count)
                step, last = int(state.step), self._is_last(state)
                if count == size or elapsed > CHUNK_SECONDS:
                    size = next_chunk_size(count, elapsed)
                loss = None
                if last or step % config.eval_every == 0:
                    loss = self.evaluate(state)
                # While steps are skipped the run may be diverging: keep the earlier checkpoints.
                if step % config.checkpoint_every == 0 and not int(state.skipped):
                    self.checkpoints.save(state, self.metadata, loss)
            # The last state, unless it is saved already.
            self.checkpoints.save(state, self.metadata, None if int(state.skipped) else loss)
            if stopping:  # another process may have seen the signal first
                stop()
        final_metrics = {} if stopping else self._evaluate_finally(state)
        return TrainResult(
            state=state,
            interrupted=stopping,
            final_metrics=final_metrics,
            evaluated=self._evaluation.evaluated,
            seconds=self._seconds,
            compile_seconds=self._advance.compile_seconds,
            evaluation_seconds=self._evaluation_seconds,
            flops_per_step=None if stopping else self._advance.flops_per_step(state),
        )

    def _start(self, state: TrainState, *, last: bool) -> float | None:
        """Compiles the steps, prints what the run needs, and evaluates a new run.

        Returns the monitored loss of a new run; raises TooLarge if the run does not fit.
        """
        new, every = int(state.step) == 0, self.config.eval_every
        if last:
            return self.evaluate(state) if new else None
        times = -(-self.config.steps // every) - int(state.step) // every + new
        cost = self._evaluation.cost(state, times)
        # Compilers for accelerators time kernels on the device, which an evaluation would disturb.
        beside = new and jax.default_backend() == "cpu" and jax.process_count() == 1
        with self._evaluated_beside(state) if beside else contextlib.nullcontext() as evaluated:
            self._advance.compile(state)
            self._progress.print_line(str(needs(state, self._advance.memory, cost)))
            metrics = evaluated.result() if beside else None
        return self.evaluate(state, metrics) if new else None

    @contextlib.contextmanager
    def _evaluated_beside(self, state: TrainState) -> Iterator[Future[Metrics]]:
        """Evaluates in a thread, which ends early at an error of the body."""
        settings = jax_settings.of_this_thread()

        def evaluate() -> Metrics:
            start = time.perf_counter()
            with jax_settings.applied(settings):
                metrics = self._evaluation.during_training(state)
            self._evaluation_seconds += time.perf_counter() - start
            return metrics

        with ThreadPoolExecutor(1, "evaluation") as pool:
            try:
                yield pool.submit(evaluate)
            except BaseException:
                self._evaluation.cancel()
                raise

    def _is_last(self, state: TrainState) -> bool:
        """Returns whether all steps are taken or the optimizer has converged."""
        step, converged = int(state.step), bool(has_plateaued(state.opt_state))
        if converged and step < self.config.steps:
            self._progress.print_line(f"converged at step {step}")
        return converged or step == self.config.steps

    def train_chunk(self, state: TrainState, until: int) -> tuple[TrainState, float]:
        """Trains up to step `until` and logs; returns the state and the seconds of the steps.

        Raises:
          NonFiniteError: too many consecutive steps were not finite.
        """
        step, compiled_before = int(state.step), self._advance.compile_seconds
        with self._profiler():
            start = time.perf_counter()
            state, log = self._advance(state, until)
            elapsed = time.perf_counter() - start
        elapsed -= self._advance.compile_seconds - compiled_before
        self._chunks += 1
        self._seconds += elapsed
        self._speed = (int(state.step) - step) / elapsed
        self._log_chunk(state, step, log)
        return state, elapsed

    def _profiler(self) -> contextlib.AbstractContextManager:
        """Profiles the second chunk: the first one compiles, and later ones are long."""
        if self.config.profile and self._chunks == 1 and is_main_process():
            return jax.profiler.trace(self.folder.path / "profile")
        return contextlib.nullcontext()

    def _log_chunk(self, state: TrainState, step: int, log: dict[str, np.ndarray]) -> None:
        rows = []
        for offset, number in enumerate(range(step + 1, int(state.step) + 1)):
            row = {name: float(values[offset]) for name, values in log.items()}
            nonfinite_leaf, skipped = int(row.pop("nonfinite_leaf")), bool(row["skipped"])
            if skipped:
                name = nonfinite_names(state.params)[nonfinite_leaf]
                self._progress.print_line(f"step {number} skipped: {name} is not finite")
            if number % self.config.log_every == 0 or skipped:
                rows.append({"step": number, "split": "train"} | row | self._rate(number - 1))
        if rows:
            rows[-1] |= {"seconds": self._seconds, "steps_per_second": self._speed}
        self._writer.write(rows)
        if int(state.skipped) >= MAX_SKIPPED:
            raise self._non_finite_error(number, name)
        self._progress.advance(len(log["loss"]), float(log["loss"][-1]))

    def _rate(self, step: int) -> dict[str, float]:
        """Returns the learning rate of a step, unless the task has its own optimizer."""
        if self.task.optimizer is not None:
            return {}
        return lr_at(self.config.optimization, self._schedule, step)

    def _non_finite_error(self, step: int, name: str) -> NonFiniteError:
        steps = self.checkpoints.steps()
        saved = f"last checkpoint: step {steps[-1]}" if steps else "no checkpoint saved"
        if self.task.optimizer is None:
            cause = divergence_flags(self.config.optimization)
        else:
            cause = f"optimizer {self.task.optimizer_name}"
        return NonFiniteError(
            f"{cause}: loss, gradient or update not finite"
            f" in {MAX_SKIPPED} consecutive steps up to step {step} (last {name}); {saved}."
            f" Try lower values, or inspect with --mode=replay --replay_step={step}"
        )

    def evaluate(self, state: TrainState, metrics: Metrics | None = None) -> float:
        """Evaluates, unless `metrics` are given, logs and samples; returns the monitored loss."""
        start, step = time.perf_counter(), int(state.step)
        if metrics is None:
            metrics = self._evaluation.during_training(state)
        if self.callbacks or self.sample is not None:  # in all processes, which have parts of it
            state = state_to_host(state if self.callbacks else state.without_optimizer())
        if self.callbacks and is_main_process():
            metrics[self.data.monitor] |= call_back(
                self.callbacks, state, metrics, self.data.monitor
            )
        self._writer.write(
            [
                {"step": step, "split": split} | row | {"seconds": self._seconds}
                for split, row in metrics.items()
            ]
        )
        self._progress.evaluated(step, metrics, self._speed)
        if self.sample is not None and is_main_process():
            self.folder.write_sample(f"step-{step:06d}", self.sample(state))
        self._evaluation_seconds += time.perf_counter() - start
        return metrics[self.data.monitor]["loss"]

    def _evaluate_finally(self, state: TrainState) -> dict[str, float]:
        """Evaluates the final sets, in all processes together."""
        start = time.perf_counter()
        with signals.during("in the final evaluation"):
            metrics = self._evaluation.final(state)
        self._evaluation_seconds += time.perf_counter() - start
        if metrics and self.data.text_tokens:
            self._progress.print_line(f"final evaluation: {losses_of(metrics)}")
        return {
            f"{split}_{name}": value
            for split, row in metrics.items()
            for name, value in row.items()
        }


def _next_multiple(step: int, interval: int) -> int:
    return (step // interval + 1) * interval
