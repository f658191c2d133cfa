"""NumPy and SciPy cases of the benchmark: the sparse autoencoder."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxlabs.benchmark.peers import numpy_sparse_autoencoder
from jaxlabs.benchmark.worker import Work
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.run_config import RunConfig


def full_batch_training(config: RunConfig, load_data: Callable[[Any], DataModule]) -> Work:
    """Trains until scipy's L-BFGS converges, in float64."""
    patches, metrics = _patches(config, load_data), {}

    def run() -> None:
        _, cost, steps = numpy_sparse_autoencoder.train(
            patches, config.model, config.steps, config.seed
        )
        metrics.update(cost=float(cost), iterations=steps)

    return Work(run, extra_metrics=lambda: metrics)


def full_batch_gradient(config: RunConfig, load_data: Callable[[Any], DataModule]) -> Work:
    """Computes the cost of the whole set and its gradient."""
    patches = _patches(config, load_data)
    theta = numpy_sparse_autoencoder.initial(config.model, config.seed)
    return Work(lambda: numpy_sparse_autoencoder.cost_and_gradient(theta, patches, config.model))


def _patches(config: RunConfig, load_data: Callable[[Any], DataModule]) -> np.ndarray:
    return load_data(config).train.arrays["patches"].astype(np.float64)
