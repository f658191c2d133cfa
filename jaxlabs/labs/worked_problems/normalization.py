"""Worked problems of batch normalization: four samples, statistics for each entry.

The printed statistics of one entry do not match the printed samples. With one digit of the samples
corrected they do, and so do the printed normalized values. Both variants are computed; normalized
values are compared with the printed ones for the corrected variant only.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.labs.worked_problems import closed_form
from jaxlabs.labs.worked_problems import published as given
from jaxlabs.labs.worked_problems.rows import Value, compare
from jaxlabs.layers.batch_norm import BatchNorm

PRINTED, CORRECTED = "as printed", "misprint corrected"
THEMES = {
    PRINTED: "batch normalization, samples as printed",
    CORRECTED: "batch normalization, one misprint of the samples corrected",
}

BY_VARIANCE = (
    "Batch norm is said to divide by the variances. It divides by the standard deviation,"
    " √(variance + epsilon), as the printed values do with epsilon = 0."
)
FOURTH_DIGIT = (
    "The fourth decimals of the table of normalized values are off by up to 3; the text has the"
    " correct -0.9733 for the first of them."
)


def problems() -> list[Value]:
    """Returns statistics and normalized values of both variants."""
    rows = []
    for variant, theme in THEMES.items():
        training = samples(variant)
        ours = normalized(training)
        entries = training.reshape(len(training), -1).T
        exact = [closed_form.mean_and_variance(entry) for entry in entries]
        mean, variance = np.reshape(exact, (*training.shape[1:], 2)).transpose(2, 0, 1)
        rows += _statistics(theme, ours, mean, variance)
        divisor = np.vectorize(math.sqrt)(variance)
        sets = {
            "train": ("H", training, given.PRINTED_NORMALIZED),
            "test": ("test ", np.array(given.TEST_SAMPLES), given.PRINTED_NORMALIZED_TEST),
        }
        for name, (letter, values, printed) in sets.items():
            for number, table in enumerate(printed):
                expected = (values[[number]] - mean) / divisor
                options = {"reference": table if variant == CORRECTED else None}
                options["labels"] = [[f"{letter}{number + 1}"], ["0", "1"], ["0", "1", "2"]]
                options["erratum"] = FOURTH_DIGIT
                rows += compare(theme, "normalized", ours[name][[number]], expected, **options)
        if variant == CORRECTED:
            rows += _first_value(theme, ours["train"][0, 0, 0], training, mean, variance)
    return rows


def _first_value(
    theme: str, ours: float, training: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> list[Value]:
    """Returns the first normalized value, compared with the text and with the stated rule."""
    index = 0, 0
    centered = training[0][index] - mean[index]
    exact = centered / math.sqrt(variance[index])
    name = "normalized [H1, 0, 0]"
    by_rule = centered / variance[index]
    return [
        *compare(theme, f"{name}, in the text", ours, exact, given.PRINTED_IN_TEXT),
        *compare(theme, f"{name}, by the stated rule", ours, exact, by_rule, erratum=BY_VARIANCE),
    ]


def samples(variant: str) -> np.ndarray:
    """Returns the training samples `[4, 2, 3]` in one of the variants."""
    result = np.array(given.SAMPLES, np.float64)
    if variant == CORRECTED:
        result[given.MISPRINT] = given.MEANT
    return result


def normalized(training: np.ndarray) -> dict[str, np.ndarray]:
    """Normalizes by `BatchNorm` in float64; with momentum 1, running and batch statistics agree.

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
        result = {"train": train, "test": layer.apply(variables | changed, test, train=False)}
        result |= changed["batch_stats"]
        return {name: np.asarray(array) for name, array in result.items()}


def _statistics(
    theme: str, ours: dict[str, np.ndarray], mean: np.ndarray, variance: np.ndarray
) -> list[Value]:
    printed = {"mean": given.PRINTED_MEAN, "variance": given.PRINTED_VARIANCE}
    rows = []
    for name, exact in {"mean": mean, "variance": variance}.items():
        for index in np.ndindex(exact.shape):
            entry, options = f"{name} of entry [{index[0]}, {index[1]}]", {}
            if index == given.STATED_ENTRY:
                misprint = _misprint(mean[index], variance[index])
                options = {"reference": printed[name], "erratum": misprint}
            rows += compare(theme, entry, ours[name][index], exact[index], **options)
    return rows


def _misprint(mean: float, variance: float) -> str:
    values = ", ".join(f"{sample[0][1]:g}" for sample in given.SAMPLES)
    sample, *index = given.MISPRINT
    normalized = given.PRINTED_NORMALIZED[sample][index[0]][index[1]]
    return (
        f"The printed samples have {values} here, whose mean is {mean:g} and variance {variance:g};"
        f" with H{sample + 1}[{index[0]}, {index[1]}] = {given.MEANT:g} both are as stated, and"
        f" its normalized value is the printed {normalized}: a misprint."
    )


def arrays() -> dict[str, np.ndarray]:
    """Returns for each variant the `values` and `normalized [variant, 6 samples, 2, 3]`."""
    result = {"values": [], "normalized": []}
    for variant in THEMES:
        training = samples(variant)
        ours = normalized(training)
        result["values"].append(np.concatenate([training, given.TEST_SAMPLES]))
        result["normalized"].append(np.concatenate([ours["train"], ours["test"]]))
    return {name: np.stack(values) for name, values in result.items()} | {
        "training": np.array(len(given.SAMPLES))
    }
