"""Learning-rate schedules: linear warm-up, a plateau, and a decay."""

from collections.abc import Callable
from typing import Any

import optax

from jaxlabs.config import ArgumentError
from jaxlabs.training.optimizer_config import FULL_BATCH, OptimizerConfig

Schedule = Callable[[Any], Any]


def build_schedule(config: OptimizerConfig, steps: int) -> Schedule:
    """Returns `step -> learning rate relative to the peak`, in [0, 1].

    Raises:
      ArgumentError: warm-up leaves no step for the decay.

    Example:
      >>> from jaxlabs.training.optimizer_config import OptimizerConfig
      >>> from jaxlabs.training.schedules import build_schedule
      >>> config = OptimizerConfig(lr_schedule="linear", warmup_steps=1)
      >>> schedule = build_schedule(config, steps=5)
      >>> [round(float(schedule(step)), 2) for step in range(5)]
      [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    left = max(steps, 1) - config.warmup_steps
    if config.lr_schedule == "constant":
        decay_steps = 0
    elif left < 1 and steps:
        raise ArgumentError(
            "warmup_steps",
            f"{config.warmup_steps} is not accepted with a {config.lr_schedule} schedule of"
            f" `steps` {steps}; an integer below the number of steps",
        )
    else:  # a run may be shorter than the decay of its preset
        decay_steps = max(min(config.decay_steps or left, left), 1)
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
