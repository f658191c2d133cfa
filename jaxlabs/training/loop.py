"""The training loop: compiled chunks of steps, with evaluation, logging and checkpoints between.

One executable runs any number of steps up to its capacity (the number is an argument), so the
intervals of evaluations and checkpoints need no recompilation.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.training import capacity, signals
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel, is_main_process, sync_hosts
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.full_batch import require_whole_set
from jaxlabs.training.metric_writer import MetricsWriter, Progress
from jaxlabs.training.multi_step import MAX_SKIPPED, build_multi_step
from jaxlabs.training.optimizers import (
    build_optimizer,
    build_schedule,
    divergence_flags,
    has_plateaued,
    lr_at,
)
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.scipy_solver import solve
from jaxlabs.training.state import TrainState, create_state
from jaxlabs.training.step import nonfinite_names
from jaxlabs.training.task import Task

CHUNK_SECONDS = 3.0
"""Target duration of a chunk: short enough for signals, long beside the overhead of a call."""


def next_chunk_size(size: int, elapsed: float) -> int:
    """Returns the number of steps of the next chunk, after `size` steps in `elapsed` seconds."""
    return max(1, min(8 * size, int(size * CHUNK_SECONDS / max(elapsed, 1e-6))))


class NonFiniteError(UserError):
    """The loss, gradient or update was not finite for `MAX_SKIPPED` consecutive steps."""


@dataclasses.dataclass
class TrainResult:
    """Result of the training loop.

    Attributes:
      state: the last state.
      interrupted: whether a signal ended the loop, after a checkpoint and without the final
        evaluations.
      seconds: training time of all processes of the run so far, without compilation and
        evaluation.
      compile_seconds: compilation time of the training step in this process.
      evaluation_seconds: time of evaluations and their samples in this process.
      final_metrics: metrics of the final evaluations, `<split>_<metric>`; empty if interrupted.
    """

    state: TrainState
    interrupted: bool
    seconds: float
    compile_seconds: float
    evaluation_seconds: float
    final_metrics: dict[str, float]


def initial_state(task: Task, config: RunConfig, placement: DataParallel) -> TrainState:
    """Returns the state at step 0, on every device; raises TooLarge if it does not fit."""
    settings = config.optimization
    tx = build_optimizer(settings, build_schedule(settings, config.steps))

    def create(seed):
        variables = task.init(keys.stream(seed, "init"))
        return create_state(
            task.model,
            variables,
            tx,
            ema_decay=settings.ema_decay,
            grad_accum_steps=settings.grad_accum_steps,
            carry=task.init_carry(config.batch_size),
        )

    jitted, seed = jax.jit(create, out_shardings=placement.replicated), np.uint32(config.seed)
    capacity.require_state(jitted.trace(seed), "the state (parameters, optimizer state, EMA)")
    return jitted(seed)


def require_divides(config: RunConfig, placement: DataParallel) -> None:
    """Raises UserError unless batches split evenly over micro-batches and devices."""
    placement.require_divides(config.batch_size, config.optimization.grad_accum_steps, "batch_size")
    placement.require_divides(config.eval_batch_size, 1, "eval_batch_size")


def train(
    task: Task,
    data: DataModule,
    config: RunConfig,
    folder: RunFolder,
    placement: DataParallel,
    checkpoints: Checkpoints,
    metadata: dict[str, Any],
    sample: Callable[[TrainState], Sample] | None = None,
) -> TrainResult:
    """Trains from the newest checkpoint, or from step 0, to the last step.

    Args:
      task: the lab's model, loss and step.
      data: training and evaluation data.
      config: the run's settings.
      folder: run folder for metrics and samples.
      placement: data parallelism over the devices.
      checkpoints: the checkpoints of the folder, open for writing.
      metadata: JSON to save with every checkpoint.
      sample: `state -> sample`, written to samples/ after each evaluation.

    Raises:
      NonFiniteError: too many consecutive steps were not finite; the checkpoints are from before.
      UserError: the batch does not divide over devices and micro-batches.
    """
    require_divides(config, placement)
    require_whole_set(task, config, data.train)
    state = initial_state(task, config, placement)
    state = checkpoints.restore(state) or state
    step = int(state.step)
    main = is_main_process()
    if main:
        folder.drop_after(step)
    writer = MetricsWriter(folder, step, enabled=main, tensorboard=config.tensorboard)
    progress = Progress(config.steps, step, enabled=main)
    trainer = Trainer(
        task, data, config, folder, placement, writer, progress, sample, checkpoints.steps
    )
    if step:
        progress.print_line(f"resuming at step {step}")
    try:
        return trainer.run(state, checkpoints, metadata)
    finally:
        progress.close()
        writer.close()


class Trainer:
    """The loop in one process, with its timers."""

    def __init__(
        self, task, data, config, folder, placement, writer, progress, sample, saved_steps
    ):
        self.saved_steps = saved_steps
        self.task, self.data, self.config = task, data, config
        self.folder, self.monitor = folder, data.monitor
        self.solver, self.solved = config.optimization.optimizer == "scipy", False
        self.writer, self.progress, self.sample = writer, progress, sample
        self.multi_step = build_multi_step(task, config, placement)
        self.evaluator = Evaluator(task, placement, config)
        self.train_data = placement.replicate(data.train)
        # One by one: a dict would be returned in alphabetical order, but the first is monitored.
        self.eval_sets = {
            split: placement.replicate(part) for split, part in data.eval_sets.items()
        }
        self.final_eval_sets, self.placement = data.final_eval_sets, placement
        self.schedule = build_schedule(config.optimization, config.steps)
        times = [row["seconds"] for row in folder.read_metrics() if row.get("seconds") is not None]
        self.seconds = times[-1] if times else 0.0
        self.evaluation_seconds = 0.0
        self.speed = 0.0
        self.chunks = 0

    def run(self, state, checkpoints, metadata) -> TrainResult:
        config = self.config
        step, size, last = int(state.step), 1, self.is_last(state)
        loss = self.evaluate(state, step) if step == 0 else None
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
                if self.solver:
                    state, elapsed = self.solve(state, stop)
                else:
                    state, elapsed = self.train_chunk(state, step, count)
                step, last = int(state.step), self.is_last(state)
                if count == size:
                    size = next_chunk_size(size, elapsed)
                loss = None
                if last or step % config.eval_every == 0:
                    loss = self.evaluate(state, step)
                # While steps are skipped the run may be diverging: keep the earlier checkpoints.
                if step % config.checkpoint_every == 0 and not int(state.skipped):
                    checkpoints.save(state, metadata, loss)
            # The last state, unless it is saved already.
            checkpoints.save(state, metadata, None if int(state.skipped) else loss)
        return TrainResult(
            state=state,
            interrupted=stopping,
            final_metrics={} if stopping else self.evaluate_finally(state),
            seconds=self.seconds,
            compile_seconds=self.multi_step.compile_seconds,
            evaluation_seconds=self.evaluation_seconds,
        )

    def is_last(self, state) -> bool:
        """Returns whether all steps are taken or the optimizer has converged."""
        step = int(state.step)
        ended = bool(has_plateaued(state.opt_state)) or self.solved or (self.solver and step > 0)
        if ended and step < self.config.steps:
            self.progress.print_line(f"converged at step {step}")
        return ended or step == self.config.steps

    def solve(self, state, stop):
        """Runs the whole training in scipy, which cannot be resumed midway."""
        start = time.perf_counter()

        def on_step(number, loss, norm):
            if number % self.config.log_every == 0:
                row = {"step": number, "split": "train", "loss": loss, "gradient_norm": norm}
                self.writer.write([row | {"seconds": self.seconds + time.perf_counter() - start}])
            self.progress.advance(1, loss)
            if stop():
                raise StopIteration

        seed, steps = self.config.seed, self.config.steps
        solved = solve(self.task, state, self.data.train, seed, steps, on_step)
        self.solved, state = solved is not None, state if solved is None else solved
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self.speed = int(state.step) / elapsed
        return self.placement.replicate(state), elapsed

    def train_chunk(self, state, step, count):
        compiled_before = self.multi_step.compile_seconds
        with self.profiler():
            start = time.perf_counter()
            arguments = np.int32(count), np.uint32(self.config.seed)
            state, log = self.multi_step(state, self.train_data, *arguments)
            log = jax.device_get(log)
            elapsed = time.perf_counter() - start
        elapsed -= self.multi_step.compile_seconds - compiled_before
        self.chunks += 1
        self.seconds += elapsed
        self.speed = (int(state.step) - step) / elapsed
        self.log_chunk(state, step, count, log)
        return state, elapsed

    def profiler(self) -> contextlib.AbstractContextManager:
        """Profiles the second chunk: the first one compiles, and later ones are long."""
        if self.config.profile and self.chunks == 1 and is_main_process():
            return jax.profiler.trace(self.folder.path / "profile")
        return contextlib.nullcontext()

    def log_chunk(self, state, step, count, log) -> None:
        rows = []
        taken, skipped_in_a_row = int(state.step) - step, int(state.skipped)
        for offset in range(taken):
            number = step + offset + 1
            row = {name: float(values[offset]) for name, values in log.items()}
            nonfinite_leaf, skipped = int(row.pop("nonfinite_leaf")), bool(row["skipped"])
            if skipped:
                name = nonfinite_names(state.params)[nonfinite_leaf]
                self.progress.print_line(f"step {number} skipped: {name} is not finite")
            if number % self.config.log_every == 0 or skipped:
                rate = lr_at(self.config.optimization, self.schedule, number - 1)
                rows.append({"step": number, "split": "train"} | row | rate)
        if rows:
            rows[-1] |= {"seconds": self.seconds, "steps_per_second": self.speed}
        self.writer.write(rows)
        if skipped_in_a_row >= MAX_SKIPPED:
            steps = self.saved_steps()
            saved = f"last checkpoint: step {steps[-1]}" if steps else "no checkpoint saved"
            raise NonFiniteError(
                f"{divergence_flags(self.config.optimization)}: loss, gradient or update not finite"
                f" in {MAX_SKIPPED} consecutive steps up to step {number} (last {name}); {saved}."
                f" Try lower values, or inspect with --mode=replay --replay_step={number}"
            )
        self.progress.advance(taken, float(log["loss"][taken - 1]))

    def evaluate_finally(self, state) -> dict[str, float]:
        """Evaluates the final sets, in all processes together."""
        with signals.during("in the final evaluation"):
            return {
                f"{split}_{name}": value
                for split, examples in self.final_eval_sets().items()
                for name, value in self.evaluator(state, self.placement.replicate(examples)).items()
            }

    def evaluate(self, state, step) -> float:
        start = time.perf_counter()
        metrics = {
            split: self.evaluator(state, examples) for split, examples in self.eval_sets.items()
        }
        time_fields = {"seconds": self.seconds}
        self.writer.write(
            [{"step": step, "split": split} | row | time_fields for split, row in metrics.items()]
        )
        losses = {split: row["loss"] for split, row in metrics.items()}
        self.progress.evaluated(step, losses, self.speed)
        if self.sample is not None and is_main_process():
            self.folder.write_sample(f"step-{step:06d}", self.sample(state))
        self.evaluation_seconds += time.perf_counter() - start
        return losses[self.monitor]


def _next_multiple(step: int, interval: int) -> int:
    return (step // interval + 1) * interval
