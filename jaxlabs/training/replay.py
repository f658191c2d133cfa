"""Replay of one training step, with the RMS of every gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlabs.config import ArgumentError
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.advance import MAX_SKIPPED, Advance, step_inputs
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.feed import Feed
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.pretrained import Weights
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import leaf_names
from jaxlabs.training.step import accumulate_gradients
from jaxlabs.training.task import Task


def replay(
    task: Task,
    data: DataModule,
    config: RunConfig,
    placement: MeshSharding,
    checkpoints: Checkpoints,
    step: int,
    read_weights: Callable[[], Weights] | None = None,
) -> dict[str, float]:
    """Repeats one step of a run exactly.

    Args:
      task: the lab's model, loss and step.
      data: the data of the run.
      config: the run's settings.
      placement: the mesh.
      checkpoints: the run's checkpoints; the replay starts at the newest one before `step`.
      step: number of the step, in 1..steps; it takes the state from `step - 1` to `step`.
      read_weights: reads the weights that the run has started from, if there are any.

    Returns:
      `loss`, and the root mean square of the gradient of every parameter, by dotted name. Values
      may be non-finite.

    Raises:
      ArgumentError: the run stops before this step, diverged or converged.
    """
    resumed = any(saved < step for saved in checkpoints.steps())
    weights = {} if resumed or read_weights is None else read_weights().arrays
    state = initial_state(task, config, placement, weights=weights)
    state = checkpoints.restore(state, at_most=step - 1) or state
    advance = Advance(task, config, placement, data.train)
    state, _ = advance(state, step - 1)
    diverged = int(state.skipped) >= MAX_SKIPPED
    if diverged or int(state.step) < step - 1:
        cause = "after non-finite losses, gradients or updates" if diverged else "at convergence"
        raise ArgumentError(
            "replay_step",
            f"{step} is not accepted; the run stops at step {int(state.step)} {cause}",
        )

    @jax.jit
    def gradient_rms(state, dataset):
        batch, key = step_inputs(dataset, config.seed, state.step, config.batch_size)
        output, gradients = accumulate_gradients(
            task.loss, state, placement.shard_batch(batch), key
        )
        rms = jax.tree.map(
            lambda leaf: jnp.sqrt(jnp.mean((leaf / output.weight_sum) ** 2)), gradients
        )
        return output.loss_sum / output.weight_sum, rms

    dataset, _ = Feed(data.train, config, placement).at(step - 1)
    loss, rms = jax.device_get(gradient_rms(state, dataset))
    names = leaf_names(state.params)
    return {"loss": float(loss)} | dict(zip(names, map(float, jax.tree.leaves(rms)), strict=True))
