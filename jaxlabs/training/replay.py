"""Replay of one training step, with the RMS of every gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.batches import batch_at
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.multi_step import MAX_SKIPPED, build_multi_step
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import leaf_names
from jaxlabs.training.step import accumulate_gradients
from jaxlabs.training.task import Task


def replay(
    task: Task,
    data: DataModule,
    config: RunConfig,
    placement: DataParallel,
    checkpoints: Checkpoints,
    step: int,
) -> dict[str, float]:
    """Repeats one step of a run exactly.

    Args:
      task: the lab's model, loss and step.
      data: the data of the run.
      config: the run's settings.
      placement: data parallelism over the devices.
      checkpoints: the run's checkpoints; the replay starts at the newest one before `step`.
      step: number of the step, in 1..steps; it takes the state from `step - 1` to `step`.

    Returns:
      `loss`, and the root mean square of the gradient of every parameter, by dotted name. Values
      may be non-finite.

    Raises:
      UserError: the run stops before this step, after too many non-finite steps.
    """
    state = initial_state(task, config, placement)
    state = checkpoints.restore(state, at_most=step - 1) or state
    dataset = placement.replicate(data.train)
    multi_step = build_multi_step(task, config, placement)
    while int(state.step) < step - 1:
        count = min(step - 1 - int(state.step), config.steps_per_call)
        state, _ = multi_step(state, dataset, np.int32(count), np.uint32(config.seed))
        if int(state.skipped) >= MAX_SKIPPED:
            raise UserError(
                f"--replay_step: {step} is not accepted; the run stops at step {int(state.step)}"
                " after non-finite losses, gradients or updates"
            )

    @jax.jit
    def gradient_rms(state, dataset):
        batch = batch_at(dataset, config.seed, state.step, config.batch_size)
        key = jax.random.fold_in(keys.stream(config.seed, "step"), state.step)
        output, gradients = accumulate_gradients(
            task.loss, state, placement.shard_batch(batch), key
        )
        rms = jax.tree.map(
            lambda leaf: jnp.sqrt(jnp.mean((leaf / output.weight_sum) ** 2)), gradients
        )
        return output.loss_sum / output.weight_sum, rms

    loss, rms = jax.device_get(gradient_rms(state, dataset))
    names = leaf_names(state.params)
    return {"loss": float(loss)} | dict(zip(names, map(float, jax.tree.leaves(rms)), strict=True))
