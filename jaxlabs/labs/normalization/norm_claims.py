"""Claims about batch normalization, tested on trained and untrained networks.

Every claim predicts a positive difference for each seed. It held if the difference is positive for
every seed, is refuted if for none, and is undecided otherwise.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxlabs.labs.normalization.activation_scale import drift

Arrays = Mapping[str, np.ndarray]

TARGET = 0.2
"""Training loss in nats for the comparison of training speed."""

WINDOW = 20
"""Steps of the moving average of the loss that is compared with TARGET."""

TOLERANCE = 0.05
"""A rate is tolerated if its test accuracy is at most this far below that of the best rate."""

MAX_DRIFT = 2.0
"""Largest factor between the RMS activations of first and last layer that counts as constant."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, without a full stop, with the measured values as a sentence.

    The differences `[seed]` are positive where the claim is true, NaN where it is undecidable.
    """

    name: str
    statement: str
    evidence: str
    differences: np.ndarray

    @property
    def fraction(self) -> float:
        """Fraction of the seeds for which the claim is true."""
        return float(np.mean(self.differences > 0))

    @property
    def verdict(self) -> str:
        """One of "held", "refuted" and "undecided"."""
        if np.isnan(self.differences).any():
            return "undecided"
        return {1.0: "held", 0.0: "refuted"}.get(self.fraction, "undecided")

    def __str__(self) -> str:
        return f"“{self.statement}”: {self.verdict}. {self.evidence}"


def training_claims(arrays: Arrays) -> list[Claim]:
    """Tests the claims on the result of `norm_training.study`."""
    none, batch = (arrays["norms"].tolist().index(norm) for norm in ("none", "batch"))
    norms, best, fast = np.arange(len(arrays["norms"])), arrays["best_rate"], fastest(arrays)
    steps, rates, largest = steps_to_target(arrays), arrays["rates"], largest_rate(arrays)
    same, own = steps[:, fast[none]], steps[norms, fast]
    gap = (arrays["test_loss"] - arrays["train_loss"])[norms, best]
    accuracy = arrays["test_accuracy"][norms, best]
    groups, by_group = arrays["groups"], arrays["group_test_accuracy"]
    group_sizes = ", ".join(map(str, groups))
    return [
        Claim(
            "faster_at_the_plain_rate",
            "It trains faster at the same learning rate",
            f"At the fastest rate of the network without norm, {rates[fast[none]]:.3g}, the "
            f"training loss reaches {TARGET} nats {_steps(same[batch])} with batch norm and "
            f"{_steps(same[none])} without.",
            _difference(same[batch], same[none]),
        ),
        Claim(
            "faster_at_its_own_rate",
            "It trains faster",
            f"Each at its own fastest rate ({rates[fast[batch]]:.3g} with batch norm, "
            f"{rates[fast[none]]:.3g} without), the training loss reaches {TARGET} nats "
            f"{_steps(own[batch])} with it and {_steps(own[none])} without.",
            _difference(own[batch], own[none]),
        ),
        Claim(
            "larger_rates",
            "It tolerates larger learning rates",
            f"Test accuracy is within {100 * TOLERANCE:g} points of the best at learning rates up "
            f"to {_each(largest[batch], '.3g')} with batch norm and up to "
            f"{_each(largest[none], '.3g')} without.",
            largest[batch] - largest[none],
        ),
        Claim(
            "better_on_test_images",
            "It generalizes better",
            f"Each at its best rate, test accuracy is {_percent(accuracy[batch])} with batch norm "
            f"and {_percent(accuracy[none])} without.",
            accuracy[batch] - accuracy[none],
        ),
        Claim(
            "smaller_gap",
            "It narrows the gap between training and test",
            f"Each at its best rate, the test loss exceeds the training loss by "
            f"{_each(gap[batch], '.2f')} nats with batch norm and by {_each(gap[none], '.2f')}"
            " without.",
            gap[none] - gap[batch],
        ),
        Claim(
            "noise_regularizes",
            "The noise of its statistics regularizes",
            f"With equal batch sizes and batch statistics of {group_sizes} images each, "
            f"test accuracy is {'; '.join(map(_percent, by_group))}.",
            by_group[-2] - by_group[-1] if len(groups) > 1 else np.full_like(by_group[-1], np.nan),
        ),
    ]


def scale_claim(arrays: Arrays) -> Claim:
    """Tests the claim on the result of `activation_scale.study`, with gains instead of seeds."""
    drifts = dict(zip(arrays["norms"].tolist(), drift(arrays), strict=True))
    factors = ", ".join(
        f"{batch:.3g} with batch norm and {none:.3g} without at a gain of {gain:g}"
        for batch, none, gain in zip(drifts["batch"], drifts["none"], arrays["gains"], strict=True)
    )
    return Claim(
        "steady_scale",
        "It keeps the scale of activations constant, whatever the depth and the initial weights",
        f"Over {arrays['rms'].shape[-1]} untrained layers, the RMS activation changes by a factor "
        f"of {factors}.",
        MAX_DRIFT - drifts["batch"],
    )


def metrics(claims: list[Claim]) -> dict[str, float]:
    """Returns the fraction of seeds for which each claim is true, by name."""
    return {f"claim_{claim.name}": claim.fraction for claim in claims}


def curves(arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns the arrays for the plots of training speed.

    `curves_at_plain_rate` and `curves_at_own_rate [norm, seed, step]` are smoothed losses at the
    fastest rate of the network without norm, and at the fastest rate of each; `first_step` is their
    first step; `fastest [norm]` are the indices of the fastest rates, and `target` is TARGET.
    """
    losses, fast = smoothed(arrays["step_loss"]), fastest(arrays)
    plain = fast[arrays["norms"].tolist().index("none")]
    return {
        "curves_at_plain_rate": losses[:, plain],
        "curves_at_own_rate": losses[np.arange(len(fast)), fast],
        "first_step": np.array(arrays["step_loss"].shape[-1] - losses.shape[-1] + 1),
        "fastest": fast,
        "target": np.array(TARGET),
    }


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Returns moving averages of `losses [..., step]` over WINDOW steps, or all if there are fewer.

    The first value is that of the first WINDOW steps.
    """
    window, losses = min(WINDOW, losses.shape[-1]), np.float64(losses)
    return np.lib.stride_tricks.sliding_window_view(losses, window, axis=-1).mean(axis=-1)


def steps_to_target(arrays: Arrays) -> np.ndarray:
    """Returns the number of steps to reach TARGET `[norm, rate, seed]`; inf: never."""
    losses = arrays["step_loss"]
    reached = smoothed(losses) <= TARGET
    first = min(WINDOW, losses.shape[-1])
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1) + first, np.inf)


def fastest(arrays: Arrays) -> np.ndarray:
    """Returns the index `[norm]` of the rate that reaches TARGET first, by the median of seeds.

    If none does, it is the rate with the lowest training loss.
    """
    steps = np.median(steps_to_target(arrays), axis=-1)
    losses = np.nan_to_num(arrays["train_loss"], nan=np.inf).mean(axis=-1)
    return np.where(np.isfinite(steps).any(axis=-1), steps.argmin(axis=-1), losses.argmin(axis=-1))


def largest_rate(arrays: Arrays) -> np.ndarray:
    """Returns the largest rate `[norm, seed]` within TOLERANCE of the best test accuracy."""
    accuracy = arrays["test_accuracy"]
    near = accuracy >= accuracy.max(axis=1, keepdims=True) - TOLERANCE
    return np.where(near, arrays["rates"][None, :, None], 0).max(axis=1)


def _difference(smaller, larger):
    """Returns `larger - smaller`, NaN where neither is finite."""
    with np.errstate(invalid="ignore"):
        return larger - smaller


def _steps(steps):
    if np.isinf(steps).all():
        return "never"
    counts = [f"{count:.0f}" if np.isfinite(count) else "never" for count in steps]
    return f"after {', '.join(counts)} steps"


def _each(values, form):
    texts = [f"{value:{form}}" for value in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _percent(fractions):
    return f"{', '.join(f'{100 * fraction:.1f}' for fraction in fractions)} %"
