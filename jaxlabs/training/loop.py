"""The training loop: many steps per compiled call, and between calls the things a host must do.

One executable runs any number of steps up to its capacity (the number is an argument), so that
evaluations and checkpoints fall where they should without compiling anything new.
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
from jaxlabs.data.splits import Data
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.training import capacity, signals
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel, agree, is_main_process
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.full_batch import require_whole_set
from jaxlabs.training.metrics import MetricsWriter, Progress
from jaxlabs.training.optimizers import (
    build_optimizer,
    build_schedule,
    has_plateaued,
    lr_at,
    suspects,
)
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import MAX_SKIPPED, build_multi_step
from jaxlabs.training.scipy_solver import solve
from jaxlabs.training.state import TrainState, create_state
from jaxlabs.training.step import bad_names
from jaxlabs.training.task import Task

CALL_SECONDS = 3.0
"""How long a compiled call should take: soon enough for a signal, long beside a call's own cost."""


def next_chunk_size(pace: int, elapsed: float) -> int:
    """Returns how many steps the next call takes, where `pace` of them took `elapsed` seconds."""
    return max(1, min(8 * pace, int(pace * CALL_SECONDS / max(elapsed, 1e-6))))


class NonFiniteError(UserError):
    """The loss, its gradient or the update stayed non-finite for `MAX_SKIPPED` steps."""


@dataclasses.dataclass
class TrainResult:
    """How a run of the loop ended.

    Attributes:
      state: the last state.
      interrupted: whether a signal ended it, after a checkpoint and before the final evaluations.
      seconds: time inside training calls, over all sittings; no compilation, no evaluation.
      compile_seconds: time spent compiling the training call, this sitting.
      evaluation_seconds: time spent in evaluations and their samples, this sitting.
      final_metrics: what the final evaluations gave, by split and figure; empty when interrupted.
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
    capacity.require_state(jitted.trace(seed), "the state (parameters, optimizer, averages)")
    return jitted(seed)


def require_divides(config: RunConfig, placement: DataParallel) -> None:
    """Raises UserError unless batches split evenly over micro-batches and devices."""
    placement.require_divides(config.batch_size, config.optimization.grad_accum_steps, "batch_size")
    placement.require_divides(config.eval_batch_size, 1, "eval_batch_size")


def train(
    task: Task,
    data: Data,
    config: RunConfig,
    folder: RunFolder,
    placement: DataParallel,
    checkpoints: Checkpoints,
    facts: dict[str, Any],
    sample: Callable[[TrainState], Sample] | None = None,
) -> TrainResult:
    """Trains from the newest checkpoint, or from step 0, to the last step.

    Args:
      task: the lab's model, loss and step.
      data: what to train and evaluate on.
      config: the run's settings.
      folder: where rows, samples and checkpoints go.
      placement: where arrays live.
      checkpoints: the folder's checkpoints, open for writing.
      facts: JSON to save with every checkpoint.
      sample: draws what goes to samples/ after each evaluation, from the state.

    Raises:
      NonFiniteError: too many steps in a row were not finite; checkpoints stay good.
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
    run = Trainer(
        task, data, config, folder, placement, writer, progress, sample, checkpoints.steps
    )
    if step:
        progress.say(f"resuming at step {step}")
    try:
        return run.fold(state, checkpoints, facts)
    finally:
        progress.close()
        writer.close()


class Trainer:
    """One sitting of the loop: the fold, and the clock beside it."""

    def __init__(self, task, data, config, folder, placement, writer, progress, sample, kept):
        self.kept = kept
        self.task, self.data, self.config = task, data, config
        self.folder, self.headline = folder, data.headline
        self.solver, self.solved = config.optimization.optimizer == "scipy", False
        self.writer, self.progress, self.sample = writer, progress, sample
        self.run_steps = build_multi_step(task, config, placement)
        self.evaluator = Evaluator(task, placement, config)
        self.train_data = placement.replicate(data.train)
        # One by one: a tree of arrays would come back in alphabetical order, and the first counts.
        self.evaluations = {
            split: placement.replicate(part) for split, part in data.evaluations.items()
        }
        self.final_eval_sets, self.placement = data.final_eval_sets, placement
        self.schedule = build_schedule(config.optimization, config.steps)
        times = [row["seconds"] for row in folder.read_metrics() if row.get("seconds") is not None]
        self.seconds = times[-1] if times else 0.0
        self.evaluation_seconds = 0.0
        self.speed = 0.0
        self.calls = 0

    def fold(self, state, checkpoints, facts) -> TrainResult:
        config = self.config
        step, pace, last = int(state.step), 1, self.is_last(state)
        loss = self.evaluate(state, step) if step == 0 else None
        with signals.deferred() as stop:
            while True:
                pace, stopping = agree(pace, stop())
                if stopping or last:
                    break
                boundary = min(
                    _next_multiple(step, config.eval_every),
                    _next_multiple(step, config.checkpoint_every),
                    config.steps,
                )
                count = min(pace, boundary - step, config.steps_per_call)
                if self.solver:
                    state, elapsed = self.solve(state, stop)
                else:
                    state, elapsed = self.call(state, step, count)
                step, last = int(state.step), self.is_last(state)
                if count == pace:
                    pace = next_chunk_size(pace, elapsed)
                loss = None
                if last or step % config.eval_every == 0:
                    loss = self.evaluate(state, step)
                # While steps are skipped, the run may be lost: what was kept before is better.
                if step % config.checkpoint_every == 0 and not int(state.skipped):
                    checkpoints.save(state, facts, loss)
            # Where it stopped, unless that is saved.
            checkpoints.save(state, facts, None if int(state.skipped) else loss)
        return TrainResult(
            state=state,
            interrupted=stopping,
            final_metrics={} if stopping else self.evaluate_finally(state),
            seconds=self.seconds,
            compile_seconds=self.run_steps.compile_seconds,
            evaluation_seconds=self.evaluation_seconds,
        )

    def is_last(self, state) -> bool:
        """Tells whether all steps are taken, or the optimizer has no more to give."""
        step = int(state.step)
        ended = bool(has_plateaued(state.opt_state)) or self.solved or (self.solver and step > 0)
        if ended and step < self.config.steps:
            self.progress.say(f"converged at step {step}")
        return ended or step == self.config.steps

    def solve(self, state, stop):
        """Hands the whole of training to scipy, which cannot be stopped midway and gone on with."""
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

    def call(self, state, step, count):
        compiled_before = self.run_steps.compile_seconds
        with self.profiler():
            start = time.perf_counter()
            arguments = np.int32(count), np.uint32(self.config.seed)
            state, log = self.run_steps(state, self.train_data, *arguments)
            log = jax.device_get(log)
            elapsed = time.perf_counter() - start
        elapsed -= self.run_steps.compile_seconds - compiled_before
        self.calls += 1
        self.seconds += elapsed
        self.speed = (int(state.step) - step) / elapsed
        self.record(state, step, count, log)
        return state, elapsed

    def profiler(self) -> contextlib.AbstractContextManager:
        """Traces the second call: the first one compiles, and a later one would be long."""
        if self.config.profile and self.calls == 1 and is_main_process():
            return jax.profiler.trace(self.folder.path / "profile")
        return contextlib.nullcontext()

    def record(self, state, step, count, log) -> None:
        rows = []
        taken, skipped_in_a_row = int(state.step) - step, int(state.skipped)
        for offset in range(taken):
            number = step + offset + 1
            row = {name: float(values[offset]) for name, values in log.items()}
            nonfinite_leaf, skipped = int(row.pop("nonfinite_leaf")), bool(row["skipped"])
            if skipped:
                name = bad_names(state.params)[nonfinite_leaf]
                self.progress.say(f"step {number} skipped: {name} is not finite")
            if number % self.config.log_every == 0 or skipped:
                rate = lr_at(self.config.optimization, self.schedule, number - 1)
                rows.append({"step": number, "split": "train"} | row | rate)
        if rows:
            rows[-1] |= {"seconds": self.seconds, "steps_per_second": self.speed}
        self.writer.write(rows)
        if skipped_in_a_row >= MAX_SKIPPED:
            steps = self.kept()
            kept = (
                f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint is saved"
            )
            raise NonFiniteError(
                f"{suspects(self.config.optimization)}: step {number} is the {MAX_SKIPPED}th in a"
                f" row whose loss, gradient or update is not finite (last {name}); {kept}."
                f" Try lower values, or look with --replay_step={number}"
            )
        self.progress.advance(taken, float(log["loss"][taken - 1]))

    def evaluate_finally(self, state) -> dict[str, float]:
        """Evaluates the further sets, in all processes together."""
        with signals.during("in the final evaluation"):
            return {
                f"{split}_{name}": value
                for split, examples in self.final_eval_sets().items()
                for name, value in self.evaluator(state, self.placement.replicate(examples)).items()
            }

    def evaluate(self, state, step) -> float:
        start = time.perf_counter()
        figures = {
            split: self.evaluator(state, examples) for split, examples in self.evaluations.items()
        }
        time_fields = {"seconds": self.seconds}
        self.writer.write(
            [{"step": step, "split": split} | row | time_fields for split, row in figures.items()]
        )
        losses = {split: row["loss"] for split, row in figures.items()}
        self.progress.evaluated(step, losses, self.speed)
        if self.sample is not None and is_main_process():
            self.folder.write_sample(f"step-{step:06d}", self.sample(state))
        self.evaluation_seconds += time.perf_counter() - start
        return losses[self.headline]


def _next_multiple(step: int, interval: int) -> int:
    return (step // interval + 1) * interval
