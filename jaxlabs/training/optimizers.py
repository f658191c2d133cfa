"""Optimizers, composed from optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.param_labels import DECAYED, HIDDEN, label_params
from jaxlabs.training.schedules import Schedule
from jaxlabs.training.state import frozen_leaves

LBFGS_HISTORY = 20
"""Pairs of parameter and gradient differences that L-BFGS keeps."""

MAX_LINESEARCH_STEPS = 20
"""Maximum evaluations of one line search; float32 reaches its precision long before."""

TOLERANCE, PATIENCE = 1e-5, 20
"""Plateau: `PATIENCE` steps together lowered the loss by less than `TOLERANCE`, relatively."""


def build_optimizer(
    config: OptimizerConfig,
    schedule: Schedule,
    label_fn: Callable[[Any], Any] = label_params,
) -> optax.GradientTransformation:
    """Returns gradient clipping followed by the optimizer, with one learning-rate schedule.

    The label of a parameter, `label_fn(params)`, decides how it is updated and whether it is
    decayed.

    Muon is optax's. Unlike Jordan's code it corrects the bias of the Nesterov momentum: before the
    orthogonalization the momentum is weighted by `(1 - b^t) / (1 - b^(t + 1))`, b = 0.95, in step
    t = 1, 2, ... Step 1 is the same; with independent random gradients the updates differ by 0.1 to
    0.2 at step 2, and by 0.001 at step 60.
    """
    if config.optimizer == "lbfgs":
        return lbfgs()
    rate = _scaled(schedule, config.learning_rate)

    def decayed(params):
        return jax.tree.map(lambda label: label in DECAYED, label_fn(params))

    decoupled = {"weight_decay": config.weight_decay, "mask": decayed}
    if config.optimizer == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay, decayed),
            optax.sgd(rate, config.momentum or None, config.nesterov),
        )
    elif config.optimizer == "adam":
        optimizer = optax.adam(rate, config.adam_b1, config.adam_b2)
    elif config.optimizer == "adamw":
        optimizer = optax.adamw(rate, config.adam_b1, config.adam_b2, **decoupled)
    elif config.optimizer == "lion":
        optimizer = optax.lion(rate, config.lion_b1, config.lion_b2, **decoupled)
    else:
        optimizer = optax.contrib.muon(
            _scaled(schedule, config.muon_learning_rate),
            weight_decay=config.weight_decay,
            adam_learning_rate=rate,
            adam_b1=config.adam_b1,
            adam_b2=config.adam_b2,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(
                _muon_dimension_numbers, params, label_fn(params)
            ),
        )
    return clipped(optimizer, config)


def except_frozen(
    tx: optax.GradientTransformation, pattern: str | None
) -> optax.GradientTransformation:
    """Returns an optimizer that leaves the parameters alone whose names match a pattern."""
    if pattern is None:
        return tx

    def labels(params):
        return jax.tree.map(
            lambda kept: "frozen" if kept else "trained", frozen_leaves(params, pattern)
        )

    return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, labels)


def clipped(tx: optax.GradientTransformation, config: OptimizerConfig) -> Any:
    """Returns an optimizer after gradient clipping, if the settings have it."""
    if config.grad_clip_norm is None:
        return tx
    return optax.chain(optax.clip_by_global_norm(config.grad_clip_norm), tx)


def needs_value_fn(tx: optax.GradientTransformation, params: Any) -> bool:
    """Returns whether an optimizer evaluates the loss itself, as a line search does.

    Args:
      tx: the optimizer; its update is only traced.
      params: parameters, or their shapes and dtypes.
    """

    def update(params, **search):
        update = optax.with_extra_args_support(tx).update
        return update(params, tx.init(params), params, value=jnp.float32(0), grad=params, **search)

    try:
        jax.eval_shape(update, params)
    except TypeError:  # another cause than a missing `value_fn` is raised again
        jax.eval_shape(lambda params: update(params, value_fn=lambda _: jnp.float32(0)), params)
        return True
    return False


class PlateauState(NamedTuple):
    """The best loss, and the number of steps without improvement."""

    lowest: jax.Array
    stalled: jax.Array
    inner: optax.OptState


def lbfgs() -> optax.GradientTransformationExtraArgs:
    """Returns L-BFGS with a zoom line search (Nocedal and Wright 2006, algorithms 3.5 and 7.4)."""
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=MAX_LINESEARCH_STEPS)
    return until_plateau(optax.lbfgs(memory_size=LBFGS_HISTORY, linesearch=search))


def until_plateau(
    inner: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Returns a full-batch optimizer that records whether the loss has plateaued."""

    def init(params: Any) -> PlateauState:
        # Some leaves are initially weakly typed scalars, which would recompile the step.
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), inner.init(params))
        return PlateauState(jnp.float32(jnp.inf), jnp.int32(0), state)

    def step(updates, state, params=None, *, value, **extra):
        updates, inner_state = inner.update(updates, state.inner, params, value=value, **extra)
        value = value.astype(jnp.float32)
        better = value < state.lowest - TOLERANCE * jnp.abs(value)
        stalled = jnp.where(better, 0, state.stalled + 1)
        return updates, PlateauState(jnp.where(better, value, state.lowest), stalled, inner_state)

    return optax.GradientTransformationExtraArgs(init, step)


def has_plateaued(opt_state: optax.OptState) -> jax.Array:
    """Returns [] bool: whether the loss has plateaued; False without a PlateauState."""
    stalled = optax.tree_utils.tree_get(opt_state, "stalled", jnp.int32(0))
    return stalled >= PATIENCE


def _muon_dimension_numbers(
    leaf: jax.Array, label: str
) -> optax.contrib.MuonDimensionNumbers | None:
    """Returns which axes of a kernel `[..., in, out]` make a matrix; None for other parameters."""
    if label != HIDDEN:
        return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)


def _scaled(schedule: Schedule, peak: float) -> Schedule:
    return lambda step: peak * schedule(step)
