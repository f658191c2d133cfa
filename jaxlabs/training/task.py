"""The task of a lab: a model with its loss and its training step."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.interpreters import partial_eval

from jaxlabs.config import ArgumentError
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.losses.loss_output import LossFunction
from jaxlabs.training.optimizer_config import FULL_BATCH, SETTINGS
from jaxlabs.training.optimizers import (
    build_optimizer,
    clipped,
    except_frozen,
    needs_value_fn,
    until_plateau,
)
from jaxlabs.training.param_labels import label_params
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.schedules import Schedule, build_schedule
from jaxlabs.training.state import TrainState, Tree, frozen_leaves, leaf_names
from jaxlabs.training.step import build_train_step

Callback = Callable[[int, TrainState, Mapping[str, float]], Mapping[str, float] | None]
"""See `Lab.callbacks`."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Model, loss and training step, without the data.

    Attributes:
      model: the linen module.
      init: `init(key) -> variables`.
      loss: the lab's loss, for evaluation.
      train_step: the lab's jitted step; None: `build_train_step(loss)`, see `step`.
      derived_metrics: `metrics -> further metrics`, such as a perplexity from a loss.
      init_carry: `init_carry(batch_size) -> initial carry`; None for losses without a carry.
      batch_coupled: whether the loss of an example depends on the other examples of its batch
        (BatchNorm, mean activations, contrastive negatives). Such a loss is refused with more than
        one micro-batch; leave it False in a lab that documents what micro-batches mean there.
      optimizer: the task's own optimizer, with its learning rate, schedule and weight decay; None:
        the optimizer of the settings. One whose update needs `value_fn`, such as a line search,
        gets the full-batch step; `value` and `grad` are passed to every optimizer that takes them.
      optimizer_name: name of `optimizer`, which is stored with the run: a run is not resumed with
        another one. Required with `optimizer`.
      optimizer_settings: names of the settings that `optimizer` reads, such as `learning_rate`; the
        other ones of the built-in optimizers are refused when they are given.
      label_fn: `params -> labels`, which decide the optimizer and the weight decay of each
        parameter; a function of the paths, since optax also calls it with some leaves masked. See
        `jaxlabs.training.param_labels.label_params`.
    """

    model: nn.Module
    init: Callable[[jax.Array], dict[str, Tree]]
    loss: LossFunction
    train_step: Any = None
    derived_metrics: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: {}
    init_carry: Callable[[int], Tree] = lambda batch_size: None
    batch_coupled: bool = False
    label_fn: Callable[[Tree], Tree] = label_params
    optimizer: optax.GradientTransformation | None = None
    optimizer_name: str = ""
    optimizer_settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if (self.optimizer is None) != (self.optimizer_name == ""):
            message = "expected together with Task.optimizer, whose name is stored with the run"
            raise ArgumentError("optimizer_name", message)
        known = {*itertools.chain(*SETTINGS.values())}
        for name in self.optimizer_settings:
            if name not in known:
                accepted = f"some of {', '.join(sorted(known))}"
                raise ArgumentError("optimizer_settings", f"{name!r} is not accepted; {accepted}")

    @property
    def step(self) -> Any:
        """The jitted step: `train_step`, or that of the loss."""
        return self.train_step or _step_of(self.loss)

    @functools.cached_property
    def own_line_search(self) -> bool:
        """Whether `optimizer` evaluates the loss itself; found by tracing its update."""
        if self.optimizer is None:
            return False
        variables = jax.eval_shape(self.init, jax.random.key(0))
        return needs_value_fn(self.optimizer, variables["params"])


_step_of = functools.cache(build_train_step)


def is_full_batch(task: Task, config: RunConfig) -> bool:
    """Returns whether the optimizer of a run uses all examples at every step."""
    if task.optimizer is None:
        return config.optimization.optimizer in FULL_BATCH
    return task.own_line_search


def optimizer_name(task: Task, config: RunConfig) -> str:
    """Returns the name of the optimizer of a run."""
    return config.optimization.optimizer if task.optimizer is None else task.optimizer_name


def build_task_optimizer(
    task: Task, config: RunConfig, schedule: Schedule | None = None
) -> optax.GradientTransformation:
    """Returns the optimizer of a run, after gradient clipping.

    Args:
      task: the lab's model, perhaps with an optimizer.
      config: the run's settings.
      schedule: learning rate relative to the peak; None: that of the settings. It scales the
        updates of a task's own optimizer, whose own schedule remains.
    """
    settings = config.optimization
    if task.optimizer is None:
        schedule = schedule or build_schedule(settings, config.steps)
        tx = build_optimizer(settings, schedule, task.label_fn)
        return except_frozen(tx, settings.freeze)
    if is_full_batch(task, config):
        return until_plateau(task.optimizer)
    tx = task.optimizer
    if schedule is not None:
        tx = optax.chain(tx, optax.scale_by_schedule(schedule))
    return except_frozen(clipped(tx, settings), settings.freeze)


def is_batch_coupled(task: Task) -> bool:
    """Whether a loss depends on the other examples of its batch, by itself or by BatchNorm."""
    return task.batch_coupled or "batch_stats" in jax.eval_shape(task.init, jax.random.key(0))


def is_stochastic(task: Task, dataset: Any, batch_size: int) -> bool:
    """Returns whether the training loss depends on its key or on the step; it is only traced."""

    def loss(key, step, variables, batch, carry):
        output = task.loss(task.model, variables, batch, key, train=True, step=step, carry=carry)
        return output.loss_sum, output.weight_sum

    key, step = jax.random.key(0), jnp.int32(0)
    variables = jax.eval_shape(task.init, key)
    batch = jax.eval_shape(lambda: batch_at(dataset, 0, 0, batch_size))
    carry = jax.eval_shape(lambda: task.init_carry(batch_size))
    jaxpr = jax.make_jaxpr(loss)(key, step, variables, batch, carry).jaxpr
    _, (uses_key, uses_step, *_) = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return uses_key or uses_step


def require_own_settings(task: Task, given: Iterable[str]) -> None:
    """Raises ArgumentError for a given setting that a task's own optimizer ignores."""
    if task.optimizer is None:
        return
    ignored = {"optimizer"}.union(*SETTINGS.values()).difference(task.optimizer_settings)
    for name in given:
        if name in ignored:
            message = f"not used by {task.optimizer_name}, the lab's own optimizer"
            raise ArgumentError(name, message)


def require_trainable(task: Task, config: RunConfig, dataset: Any) -> None:
    """Raises ArgumentError unless the optimizer settings suit the loss and the data.

    A full-batch optimizer needs all examples in a batch, and a line search compares values of one
    function, which must be deterministic.
    """
    settings = config.optimization
    if task.optimizer is None and settings.optimizer == "scipy":
        raise ArgumentError(
            "optimizer", "scipy is no longer accepted; lbfgs minimizes the same loss"
        )
    if task.batch_coupled and settings.grad_accum_steps > 1:
        raise ArgumentError(
            "grad_accum_steps",
            f"{settings.grad_accum_steps} is not accepted; 1, since the loss of an example depends"
            " on the others of its batch",
        )
    if settings.freeze is not None:
        _require_frozen(task, settings.freeze)
    if not is_full_batch(task, config):
        return
    name = optimizer_name(task, config)
    if not isinstance(dataset, Examples):
        raise ArgumentError("optimizer", f"{name} needs a finite set of examples; adamw or muon")
    required = {
        "batch_size": (config.batch_size, dataset.count, f"{dataset.count}, all training examples"),
        "grad_clip_norm": (settings.grad_clip_norm, None, "none"),
        "ema_decay": (settings.ema_decay, 0.0, "0"),
        "freeze": (settings.freeze, None, "none"),
    }
    for argument, (value, accepted, words) in required.items():
        if value != accepted:
            raise ArgumentError(
                argument, f"{value} is not accepted with `optimizer` {name}; {words}"
            )
    init = jax.eval_shape(task.init, jax.random.key(0))
    if "batch_stats" in init or task.init_carry(config.batch_size) is not None:
        raise ArgumentError(
            "optimizer",
            f"{name} updates neither running statistics nor a carry, which the model has; adamw or"
            " muon",
        )
    if is_stochastic(task, dataset, config.batch_size):
        raise ArgumentError(
            "optimizer",
            f"{name} needs a deterministic loss (no dropout, no sampled latents); adamw or muon",
        )


def _require_frozen(task: Task, pattern: str) -> None:
    """Raises ArgumentError unless the pattern is that of some of the parameters."""
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    frozen = jax.tree.leaves(frozen_leaves(params, pattern))
    if not any(frozen):
        names = ", ".join(leaf_names(params)[:5])
        raise ArgumentError("freeze", f"{pattern!r} is found in no parameter; some are {names}")
    if all(frozen):
        raise ArgumentError("freeze", f"{pattern!r} is found in every parameter; none is trained")
