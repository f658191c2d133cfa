"""Optimizers and learning-rate schedules, put together from optax."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxlabs.config import Config, UserError, setting

Schedule = Callable[[Any], Any]

FULL_BATCH = ("lbfgs", "scipy")
"""Optimizers that take all examples at every step."""

MEMORY = 20
"""Pairs of steps and gradients from which L-BFGS estimates the curvature."""

MAX_LINESEARCH_STEPS = 20
"""Evaluations of one line search; float32 runs out of digits long before."""

ENDS = ("input", "output", "head")
"""Outermost modules at a network's ends, which Muon is not made for."""

MATRIX, KERNEL = 2, 4
"""Numbers of axes of what mixes channels; a kernel of three is depthwise here and mixes none."""

TOLERANCE, PATIENCE = 1e-5, 20
"""Converged: the last 20 steps together lowered the loss by less than a hundred-thousandth."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """How gradients become updates."""

    optimizer: str = setting(
        "adamw",
        "adamw (Loshchilov and Hutter 2019); muon: orthogonalized momentum (Jordan 2024) for the"
        " matrices and kernels outside embedding, input, output and head, and NAdam without decay"
        " for all else, as in optax, which corrects the momentum's bias where the original does"
        " not; on all examples at once, until it has converged: lbfgs (optax's), or scipy"
        " (its L-BFGS-B, in float64)",
        choices=("adamw", "muon", *FULL_BATCH),
    )
    learning_rate: float = setting(1e-3, "peak rate of AdamW", above=0)
    muon_learning_rate: float = setting(0.02, "peak rate of Muon's matrices", above=0)
    lr_schedule: str = setting(
        "constant",
        "shape of the rate after warm-up",
        choices=("constant", "cosine", "linear"),
        aliases=("schedule",),
    )
    warmup_steps: int = setting(0, "steps over which the rate rises linearly from 0", minimum=0)
    decay_steps: int | None = setting(
        None,
        "last steps over which the rate falls, at most all after warm-up; none: all of these",
        minimum=1,
    )
    end_lr_ratio: float = setting(
        0.0,
        "where the fall ends, as a share of the peak",
        minimum=0,
        maximum=1,
        aliases=("final_rate_fraction",),
    )
    adam_b1: float = setting(0.9, "decay of AdamW's first moment", minimum=0, below=1)
    adam_b2: float = setting(0.999, "decay of AdamW's second moment", minimum=0, below=1)
    weight_decay: float = setting(
        0.01, "AdamW's and Muon's decoupled decay, of matrices and kernels only", minimum=0
    )
    grad_clip_norm: float | None = setting(
        None,
        "largest global norm of a gradient; none: no clipping",
        above=0,
        aliases=("clip_norm",),
    )
    ema_decay: float = setting(
        0.0,
        "share that the moving average of parameters keeps per step; 0: no average",
        minimum=0,
        below=1,
    )
    grad_accum_steps: int = setting(
        1,
        "slices of a batch whose gradients add up; exact, and smaller in memory",
        minimum=1,
        aliases=("micro_batches",),
    )


def suspects(config: OptimizerConfig) -> str:
    """Returns the flags that may have let a step's loss, gradient or update become not finite.

    The learning rate is always among them; others are where they depart from their defaults.
    """
    rate = "muon_learning_rate" if config.optimizer == "muon" else "learning_rate"
    default = OptimizerConfig()
    others = [
        name
        for name in ("learning_rate", "weight_decay", "adam_b1", "adam_b2")
        if name != rate and getattr(config, name) > getattr(default, name)
    ]
    return ", ".join(f"--{name}={getattr(config, name)}" for name in (rate, *others))


def build_schedule(config: OptimizerConfig, steps: int) -> Schedule:
    """Returns the rate as a share of the peak, in [0, 1], against the step.

    Raises:
      UserError: warm-up leaves no step for the fall.

    Example:
      >>> from jaxlabs.training.optimizers import OptimizerConfig, build_schedule
      >>> share = build_schedule(OptimizerConfig(schedule="linear", warmup_steps=1), steps=5)
      >>> [round(float(share(step)), 2) for step in range(5)]
      [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    left = max(steps, 1) - config.warmup_steps
    if config.lr_schedule == "constant":
        decay_steps = 0
    elif left < 1:
        raise UserError(
            f"--warmup_steps: {config.warmup_steps} is not accepted with a {config.lr_schedule}"
            f" schedule of --steps {steps}; a whole number below the number of steps"
        )
    else:  # a preset's fall must not forbid a shorter run
        decay_steps = min(config.decay_steps or left, left)
    fall = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, decay_steps, config.end_lr_ratio),
        "linear": lambda: optax.linear_schedule(1.0, config.end_lr_ratio, decay_steps),
    }[config.lr_schedule]()
    # The rate at step 0 is one rise above zero: a first step of rate 0 would be a step lost.
    rise = optax.linear_schedule(1 / (config.warmup_steps + 1), 1.0, max(config.warmup_steps, 1))
    plateau = optax.constant_schedule(1.0)
    return optax.join_schedules(
        [rise, plateau, fall], [config.warmup_steps, max(steps - decay_steps, config.warmup_steps)]
    )


def lr_at(config: OptimizerConfig, schedule: Schedule, step: int) -> dict[str, float]:
    """Returns the `learning_rate` of a step as a metric; nothing for optimizers without one."""
    if config.optimizer in FULL_BATCH:
        return {}
    return {"learning_rate": float(schedule(step)) * config.learning_rate}


def build_optimizer(config: OptimizerConfig, schedule: Schedule) -> optax.GradientTransformation:
    """Returns clipping followed by the optimizer, its rates shaped by one schedule.

    Muon is optax's. It corrects the bias of the Nesterov momentum, which Jordan's code does not:
    before the orthogonalization the momentum counts `(1 - b^t) / (1 - b^(t + 1))` times as much as
    there, b = 0.95, in step t = 1, 2, ... Step 1 is the same; with independent random gradients
    updates differ by a tenth to a fifth at step 2, and by a thousandth at step 60.
    """
    if config.optimizer == "lbfgs":
        return lbfgs()
    if config.optimizer == "scipy":  # which keeps its state to itself
        return optax.identity()
    adam_rate = _scaled(schedule, config.learning_rate)
    if config.optimizer == "adamw":
        optimizer = optax.adamw(
            adam_rate,
            b1=config.adam_b1,
            b2=config.adam_b2,
            weight_decay=config.weight_decay,
            mask=matrices,
        )
    else:
        optimizer = optax.contrib.muon(
            _scaled(schedule, config.muon_learning_rate),
            weight_decay=config.weight_decay,
            adam_learning_rate=adam_rate,
            adam_b1=config.adam_b1,
            adam_b2=config.adam_b2,
            muon_weight_dimension_numbers=_block_matrices,
        )
    if config.grad_clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.grad_clip_norm), optimizer)


class StopState(NamedTuple):
    """The lowest loss that counted as progress, and for how many steps none has followed."""

    lowest: jax.Array
    stalled: jax.Array
    inner: optax.OptState


def lbfgs() -> optax.GradientTransformationExtraArgs:
    """Returns L-BFGS with a zoom line search (Nocedal and Wright 2006, algorithms 3.5 and 7.4)."""
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=MAX_LINESEARCH_STEPS)
    return _counting_stalls(optax.lbfgs(memory_size=MEMORY, linesearch=search))


def _counting_stalls(
    inner: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    def init(params: Any) -> StopState:
        # Some of its leaves begin as weakly typed scalars, which would compile the step twice.
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), inner.init(params))
        return StopState(jnp.float32(jnp.inf), jnp.int32(0), state)

    def step(updates, state, params=None, *, value, **extra):
        updates, inner_state = inner.update(updates, state.inner, params, value=value, **extra)
        value = value.astype(jnp.float32)
        better = value < state.lowest - TOLERANCE * jnp.abs(value)
        stalled = jnp.where(better, 0, state.stalled + 1)
        return updates, StopState(jnp.where(better, value, state.lowest), stalled, inner_state)

    return optax.GradientTransformationExtraArgs(init, step)


def has_plateaued(opt_state: optax.OptState) -> jax.Array:
    """Returns [] bool: whether the optimizer has come to an end; of most it is never told."""
    stalled = optax.tree_utils.tree_get(opt_state, "stalled", jnp.int32(0))
    return stalled >= PATIENCE


def matrices(params: Any) -> Any:
    """Returns a tree of booleans: True for matrices, and for kernels that mix channels."""
    return jax.tree.map(lambda leaf: leaf.ndim in (MATRIX, KERNEL), params)


def _block_matrices(params: Any) -> Any:
    """Marks matrices, and kernels as matrices of patches, outside ENDS and outermost embeddings."""

    def mark(path, leaf):
        outermost = jax.tree_util.keystr(path[:1], simple=True)
        end = outermost in ENDS or "embedding" in outermost
        if end or leaf.ndim not in (MATRIX, KERNEL):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(mark, params)


def _scaled(schedule: Schedule, peak: float) -> Schedule:
    return lambda step: peak * schedule(step)
