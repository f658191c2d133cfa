"""Optimizers and learning-rate schedules, composed from optax."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxlabs.config import ArgumentError, Config, setting
from jaxlabs.training.state import frozen_leaves

Schedule = Callable[[Any], Any]

SCHEDULE = ("learning_rate", "lr_schedule", "warmup_steps", "decay_steps", "end_lr_ratio")
ADAM = (*SCHEDULE, "adam_b1", "adam_b2")
SETTINGS = {
    "sgd": (*SCHEDULE, "momentum", "nesterov", "weight_decay"),
    "adam": ADAM,
    "adamw": (*ADAM, "weight_decay"),
    "lion": (*SCHEDULE, "lion_b1", "lion_b2", "weight_decay"),
    "muon": (*ADAM, "muon_learning_rate", "weight_decay"),
    "lbfgs": (),
}
"""The settings that each optimizer uses, apart from clipping, EMA and gradient accumulation."""

WEIGHT_DECAY = {"sgd": 0.0}
"""Default weight decay of optimizers where it is not `DEFAULT_WEIGHT_DECAY`."""

DEFAULT_WEIGHT_DECAY = 0.01

FULL_BATCH = ("lbfgs",)
"""Optimizers that use all examples at every step."""

LBFGS_HISTORY = 20
"""Pairs of parameter and gradient differences that L-BFGS keeps."""

MAX_LINESEARCH_STEPS = 20
"""Maximum evaluations of one line search; float32 reaches its precision long before."""

HIDDEN, EMBEDDING, HEAD, VECTOR = "hidden", "embedding", "head", "vector"
"""Labels of parameters.

hidden: kernels of hidden layers, which Muon orthogonalizes; embedding: tables with one row per
token, position, class or hash; head: kernels of the first and last layer; vector: biases, scales
and depthwise kernels, which are not decayed.
"""

DECAYED = (HIDDEN, EMBEDDING, HEAD)
"""Labels of the parameters that are decayed; Muon decays those that it orthogonalizes."""

PARAM_LABELS = (
    (r"(bias|scale|first_state)$", VECTOR),
    # Depthwise: one filter per channel. The kernel [width, 1, channels] has the shape of a grouped
    # convolution in checkpoints, but is no matrix.
    (r"convolution\.kernel$", VECTOR),
    (r"(embedding|table)$", EMBEDDING),
    (r"(^|\.)(input|output|head)\.kernel$", HEAD),
    (r"kernel$", HIDDEN),
)
"""The label of a parameter is that of the first pattern found in its dotted path."""

TOLERANCE, PATIENCE = 1e-5, 20
"""Plateau: `PATIENCE` steps together lowered the loss by less than `TOLERANCE`, relatively."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """Settings of the optimizer, its schedule, clipping, EMA and gradient accumulation."""

    optimizer: str = setting(
        "adamw",
        "optimizer; sgd: with --momentum and --nesterov; adam: Kingma and Ba 2015, without weight"
        " decay; adamw: Loshchilov and Hutter 2019; lion: Chen et al. 2023, a rate of a third to a"
        " tenth of AdamW's; muon: orthogonalized momentum (Jordan 2024)"
        " of optax, with bias correction, for the kernels of hidden layers, and NAdam without"
        " weight decay for embeddings, input and output layers, heads, short convolutions, norms"
        " and biases; lbfgs: optax's L-BFGS, full batch, until convergence",
        choices=tuple(SETTINGS),
        retired=("scipy",),
    )
    learning_rate: float = setting(
        1e-3, "peak learning rate; muon: that of its NAdam; not of lbfgs", above=0
    )
    muon_learning_rate: float = setting(0.02, "peak learning rate of muon", above=0)
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
    momentum: float = setting(0.0, "momentum of sgd", minimum=0, below=1)
    nesterov: bool = setting(False, "Nesterov's form of the momentum of sgd")
    adam_b1: float = setting(
        0.9, "decay rate of the first moment of adam, adamw and muon's NAdam", minimum=0, below=1
    )
    adam_b2: float = setting(
        0.999, "decay rate of the second moment of adam, adamw and muon's NAdam", minimum=0, below=1
    )
    lion_b1: float = setting(
        0.9, "weight of the momentum in the update of lion", minimum=0, below=1
    )
    lion_b2: float = setting(0.99, "decay rate of the momentum of lion", minimum=0, below=1)
    weight_decay: float | None = setting(
        None,
        "decoupled weight decay; none: 0.01, for sgd 0; adamw, lion: of kernels and embeddings;"
        " muon: of the kernels that it orthogonalizes; sgd: of kernels and embeddings, added to the"
        " gradient; never of biases, norms and short convolutions",
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

    freeze: str | None = setting(
        None,
        "regular expression; parameters in whose dotted name it is found do not change",
    )

    def __post_init__(self) -> None:
        if self.weight_decay is None:  # resolved at once, so that a run stores the number
            default = WEIGHT_DECAY.get(self.optimizer, DEFAULT_WEIGHT_DECAY)
            object.__setattr__(self, "weight_decay", default)
        super().__post_init__()

    def check(self) -> None:
        try:
            re.compile(self.freeze or "")
        except re.error as error:
            message = f"{self.freeze!r} is not a regular expression: {error}"
            raise ArgumentError("freeze", message) from None
        if self.nesterov and not self.momentum:
            raise ArgumentError(
                "nesterov", "true is not accepted with `momentum` 0; a momentum above 0"
            )


def require_used(config: OptimizerConfig, given: Iterable[str]) -> None:
    """Raises ArgumentError for a given setting that the optimizer does not use.

    Args:
      config: the settings.
      given: names of the settings that the user gave.
    """
    if config.optimizer not in SETTINGS:  # an earlier one, which is refused elsewhere
        return
    for name in given:
        users = [optimizer for optimizer, names in SETTINGS.items() if name in names]
        if users and config.optimizer not in users:
            raise ArgumentError(
                name, f"not used by `optimizer` {config.optimizer}; only by {', '.join(users)}"
            )


def divergence_flags(config: OptimizerConfig) -> str:
    """Returns the flags that may have caused a non-finite loss, gradient or update.

    These are the learning rate, and the others of the optimizer that exceed their defaults.
    """
    rate = "muon_learning_rate" if config.optimizer == "muon" else "learning_rate"
    default, used = OptimizerConfig(optimizer=config.optimizer), SETTINGS[config.optimizer]
    others = [
        name
        for name in ("learning_rate", "weight_decay", "momentum", "adam_b1", "adam_b2", "lion_b1")
        if name in used and name != rate and getattr(config, name) > getattr(default, name)
    ]
    return ", ".join(f"--{name}={getattr(config, name)}" for name in (rate, *others))


def build_schedule(config: OptimizerConfig, steps: int) -> Schedule:
    """Returns `step -> learning rate relative to the peak`, in [0, 1].

    Raises:
      ArgumentError: warm-up leaves no step for the decay.

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
        raise ArgumentError(
            "warmup_steps",
            f"{config.warmup_steps} is not accepted with a {config.lr_schedule} schedule of"
            f" `steps` {steps}; an integer below the number of steps",
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


def label_params(params: Any, patterns: Sequence[tuple[str, str]] = PARAM_LABELS) -> Any:
    """Returns a tree with the label of every parameter.

    Args:
      params: tree of parameters.
      patterns: (regular expression, label), see `PARAM_LABELS`.

    Raises:
      ArgumentError: a path matches no pattern.

    Example:
      >>> from jaxlabs.training.optimizers import label_params
      >>> label_params({"encoder": {"embedding": {"embedding": 0}, "hidden": {"kernel": 0}}})
      {'encoder': {'embedding': {'embedding': 'embedding'}, 'hidden': {'kernel': 'hidden'}}}
    """

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for pattern, found in patterns:
            if re.search(pattern, name):
                return found
        accepted = ", ".join(pattern for pattern, _ in patterns)
        message = f"{name!r} matches none of {accepted}; give the task its own Task.label_fn"
        raise ArgumentError("params", message)

    return jax.tree_util.tree_map_with_path(label, params)


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

    if config.optimizer == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay, decayed),
            optax.sgd(rate, config.momentum or None, config.nesterov),
        )
    elif config.optimizer == "adam":
        optimizer = optax.adam(rate, config.adam_b1, config.adam_b2)
    elif config.optimizer == "adamw":
        optimizer = optax.adamw(
            rate,
            b1=config.adam_b1,
            b2=config.adam_b2,
            weight_decay=config.weight_decay,
            mask=decayed,
        )
    elif config.optimizer == "lion":
        optimizer = optax.lion(
            rate,
            b1=config.lion_b1,
            b2=config.lion_b2,
            weight_decay=config.weight_decay,
            mask=decayed,
        )
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

    def update(params):
        update = optax.with_extra_args_support(tx).update
        return update(params, tx.init(params), params, value=jnp.float32(0), grad=params)

    try:
        jax.eval_shape(update, params)
    except TypeError as error:
        if "value_fn" not in str(error):
            raise
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
