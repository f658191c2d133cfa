"""A sparse autoencoder in numpy with a hand-written gradient, trained by scipy's L-BFGS."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

from jaxlabs.benchmark.worker import Work
from jaxlabs.data.dataset import DataModule
from jaxlabs.models.sparse_autoencoder import SparseAutoencoderConfig
from jaxlabs.training.run_config import RunConfig


def cost_and_gradient(
    theta: np.ndarray, patches: np.ndarray, config: SparseAutoencoderConfig
) -> tuple[float, np.ndarray]:
    """Returns the cost and its gradient, by the backpropagation of Ng's notes, section 3.

    Args:
      theta: W1 [hidden, visible], W2 [visible, hidden], b1 [hidden], b2 [visible], flattened in C
        order and concatenated.
      patches: [count, visible] in [0.1, 0.9].
      config: without tied kernels and k-sparse activation.
    """
    w1, w2, b1, b2 = unpack(theta, config)
    rho, count = config.sparsity_rho, len(patches)
    hidden = _sigmoid(patches @ w1.T + b1)
    output = _sigmoid(hidden @ w2.T + b2)
    mean = hidden.mean(axis=0)
    cost = 0.5 * np.sum((output - patches) ** 2) / count
    cost += config.l2_penalty / 2 * (np.sum(w1**2) + np.sum(w2**2))
    kl = rho * np.log(rho / mean) + (1 - rho) * np.log((1 - rho) / (1 - mean))
    cost += config.sparsity_weight * np.sum(kl)
    delta3 = (output - patches) * output * (1 - output)
    sparsity = config.sparsity_weight * (-rho / mean + (1 - rho) / (1 - mean))
    delta2 = (delta3 @ w2 + sparsity) * hidden * (1 - hidden)
    gradients = (
        delta2.T @ patches / count + config.l2_penalty * w1,
        delta3.T @ hidden / count + config.l2_penalty * w2,
        delta2.mean(axis=0),
        delta3.mean(axis=0),
    )
    return cost, np.concatenate([gradient.ravel() for gradient in gradients])


def unpack(theta: np.ndarray, config: SparseAutoencoderConfig) -> list[np.ndarray]:
    """Returns W1, W2, b1 and b2, see `cost_and_gradient`."""
    hidden, visible = config.hidden_size, config.visible
    shapes = [(hidden, visible), (visible, hidden), (hidden,), (visible,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    arrays = zip(np.split(theta, ends), shapes, strict=True)
    return [array.reshape(shape) for array, shape in arrays]


def initial(config: SparseAutoencoderConfig, seed: int) -> np.ndarray:
    """Samples the weights from +-sqrt(6 / (visible + hidden + 1)); the biases are 0."""
    limit = (6 / (config.visible + config.hidden_size + 1)) ** 0.5
    count = 2 * config.visible * config.hidden_size
    weights = np.random.default_rng(seed).uniform(-limit, limit, count)
    return np.concatenate([weights, np.zeros(config.hidden_size + config.visible)])


def train(
    patches: np.ndarray, config: SparseAutoencoderConfig, steps: int, seed: int = 0
) -> tuple[np.ndarray, float, int]:
    """Returns the trained theta, its cost and the number of iterations."""
    theta, cost, info = scipy.optimize.fmin_l_bfgs_b(
        cost_and_gradient, initial(config, seed), args=(patches, config), maxiter=steps
    )
    return theta, cost, info["nit"]


def full_batch_training(config: RunConfig, load_data: Callable[[Any], DataModule]) -> Work:
    """Trains until scipy's L-BFGS converges, in float64."""
    patches, metrics = _patches(config, load_data), {}

    def run() -> None:
        _, cost, steps = train(patches, config.model, config.steps, config.seed)
        metrics.update(cost=float(cost), iterations=steps)

    return Work(run, extra_metrics=lambda: metrics)


def full_batch_gradient(config: RunConfig, load_data: Callable[[Any], DataModule]) -> Work:
    """Computes the cost of the whole set and its gradient."""
    patches = _patches(config, load_data)
    theta = initial(config.model, config.seed)
    return Work(lambda: cost_and_gradient(theta, patches, config.model))


def _patches(config: RunConfig, load_data: Callable[[Any], DataModule]) -> np.ndarray:
    return load_data(config).train.arrays["patches"].astype(np.float64)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
