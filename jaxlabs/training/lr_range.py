"""The learning-rate range test: one short run whose rate rises exponentially (Smith 2017)."""

import dataclasses

import jax
import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.splits import Data
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.optimizers import FULL_BATCH, build_optimizer
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import build_multi_step
from jaxlabs.training.task import Task

LOWEST, HIGHEST = 1e-3, 1e2
"""The range, as shares of the configured learning rate."""


def require_rate(config: RunConfig) -> None:
    """Raises UserError if the optimizer has no learning rate."""
    if config.optimization.optimizer in FULL_BATCH:
        raise UserError(f"--lr_range_test: {config.optimization.optimizer} has no learning rate")


def range_test(
    task: Task, data: Data, config: RunConfig, placement: DataParallel, steps: int = 100
) -> dict[str, np.ndarray]:
    """Trains from scratch for `steps` steps while the rate rises over five decades.

    Returns:
      learning_rate [steps] and loss [steps] (of each step's own batch). The rate to choose
      lies well left of where the loss turns up.

    Raises:
      UserError: the optimizer has no learning rate.
    """
    require_rate(config)

    def rising(step):
        return LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))

    config = dataclasses.replace(config, steps_per_call=steps)
    state = initial_state(task, config, placement)
    tx = build_optimizer(config.optimization, rising)
    # A fresh optimizer state: a schedule's step counter belongs to the schedule.
    state = state.replace(tx=tx, opt_state=placement.replicate(tx.init(state.params)))
    run_steps = build_multi_step(task, config, placement)
    arguments = np.int32(steps), np.uint32(config.seed)
    state, log = run_steps(state, placement.replicate(data.train), *arguments)
    rates = config.optimization.learning_rate * rising(np.arange(steps))
    taken = int(state.step)
    return {
        "learning_rate": rates[:taken],
        "loss": np.asarray(jax.device_get(log["loss"]))[:taken],
    }
