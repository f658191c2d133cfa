"""How large activations are before training, layer by layer, with and without norms."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.models.batchnorm_net import NORMS, NormalizedNetwork, NormalizedNetworkConfig
from jaxlabs.models.image_classifier import to_float

GAINS = (0.5, 1.0, 2.0)
"""Deviation of the first kernels, as a multiple of what He et al. (2015) keep activations by."""


def study(
    config: NormalizedNetworkConfig, images: np.ndarray, num_layers: int, seed: int
) -> dict[str, np.ndarray]:
    """Measures deep networks of untrained layers.

    Args:
      config: of the network; its number of layers and its gain are not used.
      images: [batch, height, width, channels] uint8, one batch.
      layers: how many.
      seed: of the kernels.

    Returns:
      `norms`, `gains`, and `rms [norm, gain, layer]`: the root mean square of what leaves a layer's
      relu.
    """
    rms = np.empty((len(NORMS), len(GAINS), num_layers))
    for (row, norm), (column, gain) in (
        (one, other) for one in enumerate(NORMS) for other in enumerate(GAINS)
    ):
        deep = dataclasses.replace(config, num_layers=num_layers, init_gain=gain)
        rms[row, column] = _of_layers(NormalizedNetwork(deep, 2, norm), images, seed)
    return {"norms": np.array(NORMS), "gains": np.array(GAINS), "rms": rms}


def _of_layers(model: NormalizedNetwork, images: np.ndarray, seed: int) -> list[float]:
    x = to_float(images)
    # Not compiled: each layer runs once, and a program of all of them takes longer to compile.
    variables = model.init(keys.stream(seed, "init"), x[:1])
    _, sown = model.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"])
    activations = [
        jax.nn.relu(sown["intermediates"][f"hidden_{number}"]["normalized"][0])
        for number in range(model.config.num_layers)
    ]
    return [float(np.sqrt(np.mean(np.square(layer, dtype=np.float64)))) for layer in activations]


def drift(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns `[norm, gain]`: the factor between the last and the first layer of `study`, above 1.

    Shrinking by a factor counts as growing by it.
    """
    factor = np.log(arrays["rms"][..., -1]) - np.log(arrays["rms"][..., 0])
    return np.exp(np.abs(factor))


def figures(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the drifts by name."""
    found = drift(arrays)
    return {
        f"activation_drift_{norm}_gain_{gain:g}": float(found[row, column])
        for row, norm in enumerate(arrays["norms"].tolist())
        for column, gain in enumerate(arrays["gains"].tolist())
    }
