"""Batch normalization by hand: four samples, every entry with its own mean and variance.

The printed samples do not have the printed statistics of one entry; with another digit in one
place they do, and the printed normalized values go with that digit. Both readings are worked out;
normalized values are set against the printed ones in the mended reading alone.
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

PRINTED, MENDED = "as printed", "misprint mended"
THEMES = {
    PRINTED: "batch normalization, samples as printed",
    MENDED: "batch normalization, one number of the samples read as a misprint",
}

BY_VARIANCE = (
    "Batch norm is said to divide by the variances. It divides by the standard deviation,"
    " √(variance + epsilon); so do the printed values, with epsilon = 0."
)
FOURTH_DIGIT = (
    "In the table of normalized values the fourth decimal is off, by up to 3; the text has -0.9733"
    " for the first of them, which is right."
)


def problems() -> list[Number]:
    """Returns statistics and normalized values of both readings."""
    rows = []
    for reading, theme in THEMES.items():
        training = samples(reading)
        ours = normalized(training)
        exact = [closed_form.mean_and_variance(entry) for entry in _entries(training)]
        mean, variance = np.reshape(exact, (*training.shape[1:], 2)).transpose(2, 0, 1)
        rows += _statistics(theme, ours, mean, variance)
        divisor = np.vectorize(math.sqrt)(variance)
        parts = {
            "train": ("H", training, given.PRINTED_NORMALIZED),
            "test": ("test ", np.array(given.TEST_SAMPLES), given.PRINTED_NORMALIZED_TEST),
        }
        for part, (letter, values, printed) in parts.items():
            for number, table in enumerate(printed):
                rows += numbers(
                    *(theme, "normalized", ours[part][[number]]),
                    (values[[number]] - mean) / divisor,
                    table if reading == MENDED else None,
                    labels=[[f"{letter}{number + 1}"], *_places(mean.shape)],
                    mark=FOURTH_DIGIT,
                )
        if reading == MENDED:
            rows += _first_value(theme, ours["train"][0, 0, 0], training, mean, variance)
    return rows


def _first_value(
    theme: str, ours: float, training: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> list[Number]:
    """Returns the first normalized value as the text has it, and as the stated rule would."""
    place = 0, 0
    moved = training[0][place] - mean[place]
    exact = moved / math.sqrt(variance[place])
    name = "normalized [H1, 0, 0]"
    by_rule = moved / variance[place]
    return [
        *numbers(theme, f"{name}, in the text", ours, exact, given.PRINTED_IN_TEXT),
        *numbers(theme, f"{name}, by the stated rule", ours, exact, by_rule, mark=BY_VARIANCE),
    ]


def samples(reading: str) -> np.ndarray:
    """Returns the training samples `[4, 2, 3]` in one of both readings."""
    found = np.array(given.SAMPLES, np.float64)
    if reading == MENDED:
        found[given.MISPRINT] = given.MEANT
    return found


def normalized(training: np.ndarray) -> dict[str, np.ndarray]:
    """Normalizes by `BatchNorm` in float64, with the running statistics those of the batch.

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
                mark=_misprint(mean[place], variance[place]) if stated else "",
            )
    return rows


def _misprint(mean: float, variance: float) -> str:
    values = ", ".join(f"{sample[0][1]:g}" for sample in given.SAMPLES)
    sample, *place = given.MISPRINT
    normalized = given.PRINTED_NORMALIZED[sample][place[0]][place[1]]
    return (
        f"The printed samples have {values} here, whose mean is {mean:g} and variance {variance:g};"
        f" with H{sample + 1}[{place[0]}, {place[1]}] = {given.MEANT:g} both are as stated, and the"
        f" printed {normalized} is its normalized value: a misprint."
    )


def _entries(training: np.ndarray) -> Sequence[np.ndarray]:
    return training.reshape(len(training), -1).T


def _places(shape: tuple[int, ...]) -> list[list[str]]:
    return [[str(index) for index in range(size)] for size in shape]


def arrays() -> dict[str, np.ndarray]:
    """Returns, of each reading, the `values` and `normalized [reading, 6 samples, 2, 3]`."""
    found = {"values": [], "normalized": []}
    for reading in THEMES:
        training = samples(reading)
        ours = normalized(training)
        found["values"].append(np.concatenate([training, given.TEST_SAMPLES]))
        found["normalized"].append(np.concatenate([ours["train"], ours["test"]]))
    return {name: np.stack(values) for name, values in found.items()} | {
        "training": np.array(len(given.SAMPLES))
    }
