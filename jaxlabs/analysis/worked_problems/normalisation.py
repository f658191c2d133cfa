"""Batch normalisation by hand: four samples, every entry with its own mean and variance.

The printed samples do not have the printed statistics of one entry; with another digit in one
place they do. Both readings are worked out.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.worked_problems import closed_form
from jaxlabs.analysis.worked_problems.rows import Number, numbers
from jaxlabs.layers.normalization import BatchNorm
from jaxlabs.published import worked_problems as given

THEMES = {
    "as printed": "batch normalisation, samples as printed",
    "misprint mended": "batch normalisation, one number of the samples read as a misprint",
}


def problems() -> list[Number]:
    """Returns statistics and normalised values of both readings."""
    rows = []
    for reading, theme in THEMES.items():
        training = samples(reading)
        ours = normalised(training)
        exact = [closed_form.mean_and_variance(entry) for entry in _entries(training)]
        mean, variance = np.reshape(exact, (*training.shape[1:], 2)).transpose(2, 0, 1)
        rows += _statistics(theme, ours, mean, variance)
        parts = {"train": training, "test": np.array(given.TEST_SAMPLES, np.float64)}
        for part, values in parts.items():
            expected = [
                [(x - m) / math.sqrt(v) for x, m, v in zip(*flat, strict=True)]
                for flat in ((sample.ravel(), mean.ravel(), variance.ravel()) for sample in values)
            ]
            names = [f"{'H' if part == 'train' else 'test '}{i + 1}" for i in range(len(values))]
            rows += numbers(
                *(theme, "normalised", ours[part], np.reshape(expected, values.shape)),
                labels=[names, *_places(values.shape[1:])],
            )
    return rows


def samples(reading: str) -> np.ndarray:
    """Returns the training samples `[4, 2, 3]` in one of both readings."""
    found = np.array(given.SAMPLES, np.float64)
    if reading == "misprint mended":
        found[given.MISPRINT] = given.MEANT
    return found


def normalised(training: np.ndarray) -> dict[str, np.ndarray]:
    """Normalises by `BatchNorm` in float64, with the running statistics those of the batch.

    Args:
      training: [4, 2, 3].

    Returns:
      `train [4, 2, 3]` in training mode, `test [2, 2, 3]` in evaluation mode, and the statistics
      `mean` and `variance [2, 3]`.
    """
    layer = BatchNorm(epsilon=0.0, momentum=1.0, unbiased=False)
    with jax.enable_x64(True):
        x, test = jnp.asarray(training), jnp.asarray(given.TEST_SAMPLES, jnp.float64)
        variables = layer.init(keys.root(0), x, train=False)
        train, changed = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        found = {"train": train, "test": layer.apply(variables | changed, test, train=False)}
        found |= changed["batch_stats"]
        return {name: np.asarray(array) for name, array in found.items()}


def _statistics(
    theme: str, ours: dict[str, np.ndarray], mean: np.ndarray, variance: np.ndarray
) -> list[Number]:
    printed = {"mean": given.PRINTED_MEAN, "variance": given.PRINTED_VARIANCE}
    rows = []
    for name, exact in {"mean": mean, "variance": variance}.items():
        for place in np.ndindex(exact.shape):
            stated = place == given.STATED_ENTRY
            rows += numbers(
                *(theme, f"{name} of entry [{place[0]}, {place[1]}]"),
                *(ours[name][place], exact[place], printed[name] if stated else None),
                mark=_misprint(name, exact[place]) if stated else "",
            )
    return rows


def _misprint(name: str, exact: float) -> str:
    values = ", ".join(f"{sample[0][1]:g}" for sample in given.SAMPLES)
    sample, *place = given.MISPRINT
    return (
        f"The printed samples have {values} here, whose {name} is {exact:g}; with"
        f" H{sample + 1}[{place[0]}, {place[1]}] = {given.MEANT:g} it is as stated: a misprint."
    )


def _entries(training: np.ndarray) -> Sequence[np.ndarray]:
    return training.reshape(len(training), -1).T


def _places(shape: tuple[int, ...]) -> list[list[str]]:
    return [[str(index) for index in range(size)] for size in shape]


def arrays() -> dict[str, np.ndarray]:
    """Returns, of each reading, the `values` and `normalised [reading, 6 samples, 2, 3]`."""
    found = {"values": [], "normalised": []}
    for reading in THEMES:
        training = samples(reading)
        ours = normalised(training)
        found["values"].append(np.concatenate([training, given.TEST_SAMPLES]))
        found["normalised"].append(np.concatenate([ours["train"], ours["test"]]))
    return {name: np.stack(values) for name, values in found.items()} | {
        "training": np.array(len(given.SAMPLES))
    }
