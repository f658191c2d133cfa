"""scipy's L-BFGS-B on a jitted loss in float64: the reference for the other optimizers."""

from collections.abc import Callable

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


def solve(
    task: Task,
    state: TrainState,
    dataset: Examples,
    seed: int,
    steps: int,
    on_step: Callable[[int, float, float], None],
) -> TrainState | None:
    """Minimizes the mean loss over all examples with `scipy.optimize.fmin_l_bfgs_b`.

    Args:
      task: the lab's model and loss; the loss is evaluated with the same random numbers each time.
      state: the initial state, with `step` 0.
      dataset: the training set.
      seed: the run's seed.
      steps: maximum number of iterations; scipy stops earlier at convergence.
      on_step: called with (iteration, loss, gradient norm); it may raise StopIteration.

    Returns:
      The state at the minimum, with `step` the number of iterations; None after StopIteration.

    Raises:
      UserError: the loss or its gradient is not finite.
    """
    with jax.enable_x64(True):
        start, unravel = ravel_pytree(jax.tree.map(np.float64, jax.device_get(state.params)))
        wide = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in jax.device_get(dataset.arrays).items()
        }
        batch = batch_at(Examples(wide), seed, 0, dataset.count)
        key = jax.random.fold_in(keys.stream(seed, "step"), 0)

        @jax.jit
        def value_and_gradient(vector, batch):
            def mean_loss(vector):
                output = task.loss(unravel(vector), batch, key, state, True)
                return output.loss_sum / output.weight_sum

            return jax.value_and_grad(mean_loss)(vector)

        last, taken, interrupted = [], [], []

        def evaluate(vector):
            last[:] = jax.device_get(value_and_gradient(vector, batch))
            if not (np.isfinite(last[0]) and np.isfinite(last[1]).all()):
                raise UserError("--optimizer: scipy found a loss or gradient that is not finite")
            return float(last[0]), last[1]

        def on_iteration(_):  # the last evaluation is the accepted one
            taken.append(float(last[0]))
            try:
                on_step(len(taken), taken[-1], float(np.linalg.norm(last[1])))
            except StopIteration:
                interrupted.append(True)
                raise

        vector, _, _ = scipy.optimize.fmin_l_bfgs_b(
            evaluate, np.asarray(start), maxiter=steps, maxfun=15 * steps, callback=on_iteration
        )
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), unravel(vector))
    if interrupted:
        return None
    return state.replace(params=params, step=np.int32(len(taken)))
