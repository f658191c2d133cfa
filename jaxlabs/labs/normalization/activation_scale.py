"""RMS of the activations of untrained networks by layer, with and without normalization."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.models.batchnorm_net import NORMS, NormNet, NormNetConfig
from jaxlabs.models.image_classifier import to_float

GAINS = (0.5, 1.0, 2.0)
"""Standard deviation of the initial kernels, as a multiple of He initialization (2015)."""


def study(
    config: NormNetConfig, images: np.ndarray, num_layers: int, seed: int
) -> dict[str, np.ndarray]:
    """Measures the activations of untrained deep networks for one batch of images.

    Args:
      config: configuration of the network; its `num_layers` and `init_gain` are replaced.
      images: [batch, height, width, channels] uint8.
      num_layers: number of hidden layers.
      seed: of the parameters.

    Returns:
      `norms`, `gains`, and `rms [norm, gain, layer]`, the root mean square of the output of each
      layer's ReLU.
    """
    configs = [dataclasses.replace(config, num_layers=num_layers, init_gain=gain) for gain in GAINS]
    rms = [[_layer_rms(NormNet(deep, 2, norm), images, seed) for deep in configs] for norm in NORMS]
    return {"norms": np.array(NORMS), "gains": np.array(GAINS), "rms": np.array(rms)}


def _layer_rms(model, images, seed):
    x = to_float(images)
    # Not jitted: each layer runs once, and compiling all of them takes longer.
    variables = model.init(keys.stream(seed, "init"), x[:1])
    _, sown = model.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"])
    names = [f"hidden_{number}" for number in range(model.config.num_layers)]
    layers = [jax.nn.relu(sown["intermediates"][name]["normalized"][0]) for name in names]
    return [float(np.sqrt(np.mean(np.square(layer, dtype=np.float64)))) for layer in layers]


def drift(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the factor `[norm, gain]`, above 1, between the RMS of the last and the first layer.

    Shrinking by a factor counts as growing by the same factor.
    """
    logs = np.log(arrays["rms"])
    return np.exp(np.abs(logs[..., -1] - logs[..., 0]))


def metrics(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the drifts by metric name."""
    return {
        f"activation_drift_{norm}_gain_{gain:g}": float(factor)
        for norm, by_gain in zip(arrays["norms"], drift(arrays), strict=True)
        for gain, factor in zip(arrays["gains"], by_gain, strict=True)
    }
