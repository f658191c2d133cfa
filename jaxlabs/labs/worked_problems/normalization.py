"""Worked problems of batch normalization: four samples, statistics for each entry.

The printed statistics of one entry do not match the printed samples. With one digit of the samples
corrected they do, and so do the printed normalized values. Both variants are computed; normalized
values are compared with the printed ones for the corrected variant only.
"""

import math
from collections.abc import Iterator, Mapping

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
    return [row for variant, theme in THEMES.items() for row in _values(variant, theme)]


def _values(variant: str, theme: str) -> Iterator[Value]:
    training = samples(variant)
    ours = normalized(training)
    entries = training.reshape(len(training), -1).T
    exact = [closed_form.mean_and_variance(entry) for entry in entries]
    mean, variance = np.reshape(exact, (*training.shape[1:], 2)).transpose(2, 0, 1)
    yield from _statistics(theme, ours, mean, variance)
    deviation = np.vectorize(math.sqrt)(variance)
    sets = {
        "train": ("H", training, given.PRINTED_NORMALIZED),
        "test": ("test ", np.array(given.TEST_SAMPLES), given.PRINTED_NORMALIZED_TEST),
    }
    for name, (letter, values, printed) in sets.items():
        for number, table in enumerate(printed):
            labels = [[f"{letter}{number + 1}"], ["0", "1"], ["0", "1", "2"]]
            yield from compare(
                theme,
                "normalized",
                ours[name][[number]],
                (values[[number]] - mean) / deviation,
                table if variant == CORRECTED else None,
                labels=labels,
                erratum=FOURTH_DIGIT,
            )
    if variant == CORRECTED:
        # The first value again, as in the text and by the stated rule.
        name, value = "normalized [H1, 0, 0]", ours["train"][0, 0, 0]
        centered = training[0, 0, 0] - mean[0, 0]
        exact = centered / math.sqrt(variance[0, 0])
        by_rule = centered / variance[0, 0]
        yield from compare(theme, f"{name}, in the text", value, exact, given.PRINTED_IN_TEXT)
        yield from compare(
            theme, f"{name}, by the stated rule", value, exact, by_rule, erratum=BY_VARIANCE
        )


def samples(variant: str) -> np.ndarray:
    """Returns the training samples `[4, 2, 3]` in one of the variants."""
    result = np.array(given.SAMPLES, np.float64)
    if variant == CORRECTED:
        result[given.MISPRINT] = given.MEANT
    return result


def normalized(training: np.ndarray) -> dict[str, np.ndarray]:
    """Normalizes by `BatchNorm` in float64; with momentum 1, running and batch statistics agree.

    Returns `train [4, 2, 3]` in training mode, `test [2, 2, 3]` in evaluation mode, and the
    statistics `mean` and `variance [2, 3]`.
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
    theme: str, ours: Mapping[str, np.ndarray], mean: np.ndarray, variance: np.ndarray
) -> Iterator[Value]:
    erratum = _misprint(mean[given.STATED_ENTRY], variance[given.STATED_ENTRY])
    for name, exact, printed in (
        ("mean", mean, given.PRINTED_MEAN),
        ("variance", variance, given.PRINTED_VARIANCE),
    ):
        for index in np.ndindex(exact.shape):
            yield from compare(
                theme,
                f"{name} of entry [{index[0]}, {index[1]}]",
                ours[name][index],
                exact[index],
                printed if index == given.STATED_ENTRY else None,
                erratum=erratum,
            )


def _misprint(mean: float, variance: float) -> str:
    values = ", ".join(f"{sample[0][1]:g}" for sample in given.SAMPLES)
    sample, row, column = given.MISPRINT
    normalized = given.PRINTED_NORMALIZED[sample][row][column]
    return (
        f"The printed samples have {values} here, whose mean is {mean:g} and variance {variance:g};"
        f" with H{sample + 1}[{row}, {column}] = {given.MEANT:g} both are as stated, and"
        f" its normalized value is the printed {normalized}: a misprint."
    )


def arrays() -> dict[str, np.ndarray]:
    """Returns for each variant the `values` and `normalized [variant, 6 samples, 2, 3]`."""
    variants = [samples(variant) for variant in THEMES]
    ours = [normalized(training) for training in variants]
    return {
        "values": np.stack([np.concatenate([x, given.TEST_SAMPLES]) for x in variants]),
        "normalized": np.stack([np.concatenate([one["train"], one["test"]]) for one in ours]),
        "training": np.array(len(given.SAMPLES)),
    }
