"""The learning-rate range test (Smith 2017): a short run with an exponentially rising rate."""

import dataclasses

import jax
import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.multi_step import build_multi_step
from jaxlabs.training.optimizers import FULL_BATCH, build_optimizer
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task

MIN_RATIO, MAX_RATIO = 1e-3, 1e2
"""The range, relative to the configured learning rate."""


def require_rate(config: RunConfig) -> None:
    """Raises UserError if the optimizer has no learning rate."""
    if config.optimization.optimizer in FULL_BATCH:
        raise UserError(f"--mode=lr_range: {config.optimization.optimizer} has no learning rate")


def range_test(
    task: Task, data: DataModule, config: RunConfig, placement: DataParallel, steps: int = 100
) -> dict[str, np.ndarray]:
    """Trains from scratch for `steps` steps while the rate rises over five decades.

    Returns:
      `learning_rate [steps]` and `loss [steps]`, the training loss of each batch. A good rate is
      well below the one at which the loss rises.

    Raises:
      UserError: the optimizer has no learning rate.
    """
    require_rate(config)

    def rising(step):
        return MIN_RATIO * (MAX_RATIO / MIN_RATIO) ** (step / (steps - 1))

    config = dataclasses.replace(config, steps_per_call=steps)
    state = initial_state(task, config, placement)
    tx = build_optimizer(config.optimization, rising)
    # A new optimizer state, since it includes the step counter of the schedule.
    state = state.replace(tx=tx, opt_state=placement.replicate(tx.init(state.params)))
    multi_step = build_multi_step(task, config, placement)
    arguments = np.int32(steps), np.uint32(config.seed)
    state, log = multi_step(state, placement.replicate(data.train), *arguments)
    rates = config.optimization.learning_rate * rising(np.arange(steps))
    taken = int(state.step)
    return {
        "learning_rate": rates[:taken],
        "loss": np.asarray(jax.device_get(log["loss"]))[:taken],
    }
