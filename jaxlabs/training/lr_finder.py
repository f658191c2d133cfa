"""The learning-rate range test (Smith 2017): a short run with an exponentially rising rate."""

import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.advance import Advance
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.optimizer_config import main_rate
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task, build_task_optimizer, is_full_batch, optimizer_name

MIN_RATIO, MAX_RATIO = 1e-3, 1e2
"""The range, relative to the configured learning rate."""


def require_rate(task: Task, config: RunConfig) -> None:
    """Raises UserError if the optimizer has no learning rate."""
    if is_full_batch(task, config):
        raise UserError(f"--mode=lr_range: {optimizer_name(task, config)} has no learning rate")


def range_test(
    task: Task, data: DataModule, config: RunConfig, placement: MeshSharding, steps: int = 100
) -> dict[str, np.ndarray]:
    """Trains from scratch for `steps` steps while the rate rises over five decades.

    Returns:
      `learning_rate [steps]` and `loss [steps]`, the training loss of each batch. A good rate is
      well below the one at which the loss rises. For Muon `muon_learning_rate [steps]`; the rate of
      its NAdam rises in proportion. For a task's own optimizer the rates are relative to its own.

    Raises:
      UserError: the optimizer has no learning rate.
    """
    require_rate(task, config)

    def rising(step):
        return MIN_RATIO * (MAX_RATIO / MIN_RATIO) ** (step / (steps - 1))

    tx = build_task_optimizer(task, config, rising)
    state = initial_state(task, config, placement, tx)
    state, log = Advance(task, config, placement, data.train, steps)(state, steps)
    name, peak = "learning_rate", 1.0
    if task.optimizer is None:
        name = main_rate(config.optimization)
        peak = getattr(config.optimization, name)
    rates = peak * rising(np.arange(steps))
    return {name: rates[: int(state.step)], "loss": log["loss"]}
