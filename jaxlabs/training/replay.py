"""Replay: go back to one step of a run, take it again, and look at every gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.batches import batch_at
from jaxlabs.data.splits import Data
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import MAX_SKIPPED, build_multi_step
from jaxlabs.training.state import leaf_names
from jaxlabs.training.step import accumulate
from jaxlabs.training.task import Task


def replay(
    task: Task,
    data: Data,
    config: RunConfig,
    placement: DataParallel,
    checkpoints: Checkpoints,
    step: int,
) -> dict[str, float]:
    """Repeats one step of a run, exactly as it was taken.

    Args:
      task: the lab's model, loss and step.
      data: what the run trains on.
      config: the run's settings.
      placement: where arrays live.
      checkpoints: the run's checkpoints; the newest one before `step` is where it starts.
      step: number of the step, 1..steps; it takes the state from `step - 1` to `step`.

    Returns:
      `loss` and, for every parameter, the root mean square of its gradient by dotted name;
      in both, a value that is not finite stands as it is.

    Raises:
      UserError: the run stops before this step, because too many steps were not finite.
    """
    state = initial_state(task, config, placement)
    state = checkpoints.restore(state, at_most=step - 1) or state
    dataset = placement.replicate(data.train)
    run_steps = build_multi_step(task, config, placement)
    while int(state.step) < step - 1:
        count = min(step - 1 - int(state.step), config.steps_per_call)
        state, _ = run_steps(state, dataset, np.int32(count), np.uint32(config.seed))
        if int(state.skipped) >= MAX_SKIPPED:
            raise UserError(
                f"--replay_step: {step} is not accepted; the run stops at step {int(state.step)}"
                " because its loss, gradient or update is not finite"
            )

    @jax.jit
    def look(state, dataset):
        batch = batch_at(dataset, config.seed, state.step, config.batch_size)
        key = jax.random.fold_in(keys.stream(config.seed, "step"), state.step)
        parts, gradients = accumulate(task.loss, state, placement.shard_batch(batch), key)
        sizes = jax.tree.map(lambda leaf: jnp.sqrt(jnp.mean((leaf / parts.weight) ** 2)), gradients)
        return parts.total / parts.weight, sizes

    loss, sizes = jax.device_get(look(state, dataset))
    names = leaf_names(state.params)
    return {"loss": float(loss)} | dict(zip(names, map(float, jax.tree.leaves(sizes)), strict=True))
