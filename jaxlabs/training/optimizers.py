"""Optimizers and learning-rate schedules, composed from optax."""

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
"""Optimizers that use all examples at every step."""

LBFGS_HISTORY = 20
"""Pairs of parameter and gradient differences that L-BFGS keeps."""

MAX_LINESEARCH_STEPS = 20
"""Maximum evaluations of one line search; float32 reaches its precision long before."""

NON_MUON_MODULES = ("input", "output", "head")
"""Top-level modules that Muon does not optimize, beside embeddings."""

MATRIX, KERNEL = 2, 4
"""Ranks of parameters that mix channels; kernels of rank 3 are depthwise here."""

TOLERANCE, PATIENCE = 1e-5, 20
"""Plateau: `PATIENCE` steps together lowered the loss by less than `TOLERANCE`, relatively."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """Settings of the optimizer, its schedule, clipping, EMA and gradient accumulation."""

    optimizer: str = setting(
        "adamw",
        "optimizer; adamw: Loshchilov and Hutter 2019; muon: orthogonalized momentum (Jordan 2024)"
        " of optax, with bias correction, for matrices and kernels outside embedding, input, output"
        " and head, and NAdam without weight decay for all other parameters; lbfgs: optax's"
        " L-BFGS, full batch, until convergence; scipy: scipy's L-BFGS-B in float64, the same",
        choices=("adamw", "muon", *FULL_BATCH),
    )
    learning_rate: float = setting(1e-3, "peak learning rate of AdamW", above=0)
    muon_learning_rate: float = setting(0.02, "peak learning rate of Muon", above=0)
    lr_schedule: str = setting(
        "constant",
        "shape of the learning rate after warm-up",
        choices=("constant", "cosine", "linear"),
        aliases=("schedule",),
    )
    warmup_steps: int = setting(
        0, "number of warm-up steps, in which the learning rate rises linearly from 0", minimum=0
    )
    decay_steps: int | None = setting(
        None,
        "number of final steps in which the learning rate decays; none: all after warm-up",
        minimum=1,
    )
    end_lr_ratio: float = setting(
        0.0,
        "final learning rate, relative to the peak",
        minimum=0,
        maximum=1,
        aliases=("final_rate_fraction",),
    )
    adam_b1: float = setting(0.9, "decay rate of AdamW's first moment", minimum=0, below=1)
    adam_b2: float = setting(0.999, "decay rate of AdamW's second moment", minimum=0, below=1)
    weight_decay: float = setting(
        0.01,
        "decoupled weight decay of matrices and kernels; with Muon, of those it optimizes",
        minimum=0,
    )
    grad_clip_norm: float | None = setting(
        None,
        "gradient clipping: maximum global norm; none: no clipping",
        above=0,
        aliases=("clip_norm",),
    )
    ema_decay: float = setting(
        0.0,
        "decay rate of the exponential moving average (EMA) of the parameters; 0: no EMA",
        minimum=0,
        below=1,
    )
    grad_accum_steps: int = setting(
        1,
        "number of micro-batches whose gradients are accumulated; exact, and uses less memory",
        minimum=1,
        aliases=("micro_batches",),
    )


def divergence_flags(config: OptimizerConfig) -> str:
    """Returns the flags that may have caused a non-finite loss, gradient or update.

    These are the learning rate, and the others that exceed their defaults.
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
    """Returns `step -> learning rate relative to the peak`, in [0, 1].

    Raises:
      UserError: warm-up leaves no step for the decay.

    Example:
      >>> from jaxlabs.training.optimizers import OptimizerConfig, build_schedule
      >>> config = OptimizerConfig(lr_schedule="linear", warmup_steps=1)
      >>> schedule = build_schedule(config, steps=5)
      >>> [round(float(schedule(step)), 2) for step in range(5)]
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
    else:  # a run may be shorter than the decay of its preset
        decay_steps = min(config.decay_steps or left, left)
    decay = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, decay_steps, config.end_lr_ratio),
        "linear": lambda: optax.linear_schedule(1.0, config.end_lr_ratio, decay_steps),
    }[config.lr_schedule]()
    # The rate at step 0 is one increment above 0: a first step with rate 0 would be wasted.
    warmup = optax.linear_schedule(1 / (config.warmup_steps + 1), 1.0, max(config.warmup_steps, 1))
    plateau = optax.constant_schedule(1.0)
    return optax.join_schedules(
        [warmup, plateau, decay],
        [config.warmup_steps, max(steps - decay_steps, config.warmup_steps)],
    )


def lr_at(config: OptimizerConfig, schedule: Schedule, step: int) -> dict[str, float]:
    """Returns the `learning_rate` of a step as a metric; nothing for optimizers without one."""
    if config.optimizer in FULL_BATCH:
        return {}
    return {"learning_rate": float(schedule(step)) * config.learning_rate}


def build_optimizer(config: OptimizerConfig, schedule: Schedule) -> optax.GradientTransformation:
    """Returns gradient clipping followed by the optimizer, with one learning-rate schedule.

    Muon is optax's. Unlike Jordan's code it corrects the bias of the Nesterov momentum: before the
    orthogonalization the momentum is weighted by `(1 - b^t) / (1 - b^(t + 1))`, b = 0.95, in step
    t = 1, 2, ... Step 1 is the same; with independent random gradients the updates differ by 0.1 to
    0.2 at step 2, and by 0.001 at step 60.
    """
    if config.optimizer == "lbfgs":
        return lbfgs()
    if config.optimizer == "scipy":  # its state is internal
        return optax.identity()
    adam_rate = _scaled(schedule, config.learning_rate)
    if config.optimizer == "adamw":
        optimizer = optax.adamw(
            adam_rate,
            b1=config.adam_b1,
            b2=config.adam_b2,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        )
    else:
        optimizer = optax.contrib.muon(
            _scaled(schedule, config.muon_learning_rate),
            weight_decay=config.weight_decay,
            adam_learning_rate=adam_rate,
            adam_b1=config.adam_b1,
            adam_b2=config.adam_b2,
            muon_weight_dimension_numbers=_muon_dimension_numbers,
        )
    if config.grad_clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.grad_clip_norm), optimizer)


class PlateauState(NamedTuple):
    """The best loss, and the number of steps without improvement."""

    lowest: jax.Array
    stalled: jax.Array
    inner: optax.OptState


def lbfgs() -> optax.GradientTransformationExtraArgs:
    """Returns L-BFGS with a zoom line search (Nocedal and Wright 2006, algorithms 3.5 and 7.4)."""
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=MAX_LINESEARCH_STEPS)
    return _with_plateau(optax.lbfgs(memory_size=LBFGS_HISTORY, linesearch=search))


def _with_plateau(
    inner: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
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


def decay_mask(params: Any) -> Any:
    """Returns a tree of booleans: True for matrices and for kernels that mix channels."""
    return jax.tree.map(lambda leaf: leaf.ndim in (MATRIX, KERNEL), params)


def _muon_dimension_numbers(params: Any) -> Any:
    """Returns Muon's dimension numbers: of matrices and kernels outside NON_MUON_MODULES."""

    def dimension_numbers(path, leaf):
        module = jax.tree_util.keystr(path[:1], simple=True)
        excluded = module in NON_MUON_MODULES or "embedding" in module
        if excluded or leaf.ndim not in (MATRIX, KERNEL):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(dimension_numbers, params)


def _scaled(schedule: Schedule, peak: float) -> Schedule:
    return lambda step: peak * schedule(step)
