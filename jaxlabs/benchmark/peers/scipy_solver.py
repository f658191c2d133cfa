"""scipy's L-BFGS-B on a jitted loss in float64: the reference for optax's L-BFGS."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from jaxlabs import keys
from jaxlabs.benchmark.jax_cases import Setup
from jaxlabs.benchmark.worker import Work
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.data.dataset import DataModule
from jaxlabs.training import devices
from jaxlabs.training.initial_state import inference_state
from jaxlabs.training.precision import STRICT, with_precision
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


def full_batch_training(setup: Setup, load_data: Callable[[Any], DataModule]) -> Work:
    """Trains our model to convergence with scipy's L-BFGS-B."""
    config = setup.config
    devices.start(config.platform)
    task, data = setup.build_task(with_precision(config, STRICT), {}), load_data(config)
    initial = inference_state(task, config, devices.data_parallel(jax.devices()[:1]))
    metrics = {}

    def run() -> None:
        _, costs = solve(task, initial, data.train, config.seed, config.steps)
        metrics.update(cost=costs[-1], iterations=len(costs))

    return Work(run, extra_metrics=lambda: metrics)


def solve(
    task: Task, state: TrainState, dataset: Examples, seed: int, steps: int
) -> tuple[Any, list[float]]:
    """Minimizes the mean loss over all examples with `scipy.optimize.fmin_l_bfgs_b`.

    Args:
      task: the lab's model and loss; the loss is evaluated with the same random numbers each time.
      dataset: the training set.
      steps: maximum number of iterations; scipy stops earlier at convergence.

    Returns:
      The parameters at the minimum, float32, and the loss of every iteration.

    Raises:
      FloatingPointError: the loss or its gradient is not finite.
    """
    with jax.enable_x64(True):
        start, unravel = ravel_pytree(jax.tree.map(np.float64, jax.device_get(state.params)))
        wide = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in jax.device_get(dataset.arrays).items()
        }
        batch = batch_at(Examples(wide), seed, 0, dataset.count)
        key = keys.at_step(seed, "step", 0)

        @jax.jit
        def value_and_gradient(vector, batch):
            def mean_loss(vector):
                variables = state.variables(unravel(vector))
                output = task.loss(task.model, variables, batch, key, train=True)
                return output.loss_sum / output.weight_sum

            return jax.value_and_grad(mean_loss)(vector)

        last, costs = [], []

        def evaluate(vector):
            last[:] = jax.device_get(value_and_gradient(vector, batch))
            if not (np.isfinite(last[0]) and np.isfinite(last[1]).all()):
                raise FloatingPointError("the loss or its gradient is not finite")
            return float(last[0]), last[1]

        vector, _, _ = scipy.optimize.fmin_l_bfgs_b(
            evaluate,
            np.asarray(start),
            maxiter=steps,
            maxfun=15 * steps,
            callback=lambda _: costs.append(float(last[0])),  # the last evaluation is accepted
        )
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), unravel(vector)), costs
