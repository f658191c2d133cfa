"""Settings of the optimizer, its schedule, clipping, EMA and gradient accumulation."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from jaxlabs.config import ArgumentError, Config, setting

DECAY = ("decay_steps", "end_lr_ratio")
SCHEDULE = ("learning_rate", "lr_schedule", "warmup_steps", *DECAY)
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
            object.__setattr__(self, "weight_decay", default_weight_decay(self.optimizer))
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


def default_weight_decay(optimizer: str) -> float:
    """Returns the weight decay of an optimizer where none is given."""
    return WEIGHT_DECAY.get(optimizer, DEFAULT_WEIGHT_DECAY)


def require_used(configs: Sequence[OptimizerConfig], given: Iterable[str]) -> None:
    """Raises ArgumentError for a given setting that no optimizer and no schedule uses.

    Args:
      configs: the settings of one run, or of each run of a sweep.
      given: names of the settings that the user gave.
    """
    optimizers = list(dict.fromkeys(config.optimizer for config in configs))
    if not {*optimizers} <= SETTINGS.keys():  # an earlier one, which is refused elsewhere
        return
    constant = all(config.lr_schedule == "constant" for config in configs)
    for name in given:
        users = [optimizer for optimizer, names in SETTINGS.items() if name in names]
        if users and not {*users} & {*optimizers}:
            raise ArgumentError(
                name,
                f"not used by `optimizer` {' or '.join(optimizers)}; only by {', '.join(users)}",
            )
        if constant and name in DECAY:
            raise ArgumentError(
                name, "not used by `lr_schedule` constant; only by cosine and linear"
            )


def main_rate(config: OptimizerConfig) -> str:
    """Returns the name of the learning rate of most parameters."""
    return "muon_learning_rate" if config.optimizer == "muon" else "learning_rate"


def divergence_flags(config: OptimizerConfig) -> str:
    """Returns the flags that may have caused a non-finite loss, gradient or update.

    These are the learning rate, and the others of the optimizer that exceed their defaults.
    """
    rate = main_rate(config)
    default, used = OptimizerConfig(optimizer=config.optimizer), SETTINGS[config.optimizer]
    others = [
        name
        for name in ("learning_rate", "weight_decay", "momentum", "adam_b1", "adam_b2", "lion_b1")
        if name in used and name != rate and getattr(config, name) > getattr(default, name)
    ]
    return ", ".join(f"--{name}={getattr(config, name)}" for name in (rate, *others))
