"""What is said of batch normalization, and whether trainings and untrained networks bear it out.

Every claim is a difference that ought to be above zero, one for each seed. It held where that is so
for every seed, is refuted where it is so for none, and is undecided in between.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxlabs.analysis.activation_scale import drift

Arrays = Mapping[str, np.ndarray]

TARGET = 0.2
"""Training loss in nats by which speed is measured."""

SPAN = 20
"""Steps over which the loss of batches is averaged before it is compared with TARGET."""

TOLERANCE = 0.05
"""A rate is tolerated where its test accuracy is at most so far below that of the best rate."""

STEADY = 2.0
"""Activations are of one scale where the last layer's is within this factor of the first's."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim and what was measured.

    Attributes:
      name: a key.
      says: the claim, without a full stop.
      found: the figures, as a sentence.
      differences: [seed], above zero where the claim is true, NaN where nothing can be said.
    """

    name: str
    says: str
    found: str
    differences: np.ndarray

    @property
    def share(self) -> float:
        """In how many of the seeds the claim is true, as a share."""
        return float(np.mean(self.differences > 0))

    @property
    def verdict(self) -> str:
        """One of "held", "refuted" and "undecided"."""
        if np.isnan(self.differences).any():
            return "undecided"
        return {1.0: "held", 0.0: "refuted"}.get(self.share, "undecided")

    def __str__(self) -> str:
        return f"“{self.says}”: {self.verdict}. {self.found}"


def of_training(arrays: Arrays) -> list[Claim]:
    """Judges what `norm_training.study` measured."""
    none, batch = (arrays["norms"].tolist().index(norm) for norm in ("none", "batch"))
    rates, needed, best = arrays["rates"], steps_to_target(arrays), arrays["best_rate"]
    fast = fastest(arrays)
    same, own = needed[:, fast[none]], [needed[row, fast[row]] for row in (none, batch)]
    largest = largest_rate(arrays)
    gap = {
        row: (arrays["test_loss"] - arrays["train_loss"])[row, best[row]] for row in (none, batch)
    }
    right = {row: arrays["test_accuracy"][row, best[row]] for row in (none, batch)}
    groups, by_group = arrays["groups"], arrays["group_test_accuracy"]
    told_groups = ", ".join(map(str, groups))
    return [
        Claim(
            "faster_at_the_plain_rate",
            "It trains faster at the same learning rate",
            f"At the plain network's own fastest rate, {rates[fast[none]]:.3g}, a training loss of "
            f"{TARGET} nats is reached {_steps(same[batch])} with it and {_steps(same[none])} "
            "without.",
            _less(same[batch], same[none]),
        ),
        Claim(
            "faster_at_its_own_rate",
            "It trains faster",
            f"Each at its own fastest rate ({rates[fast[batch]]:.3g} with it, "
            f"{rates[fast[none]]:.3g} without), {TARGET} nats are reached {_steps(own[1])} with it "
            f"and {_steps(own[0])} without.",
            _less(own[1], own[0]),
        ),
        Claim(
            "larger_rates",
            "It tolerates larger learning rates",
            f"Within {100 * TOLERANCE:g} points of the best test accuracy stays what trains at "
            f"rates up to {_each(largest[batch], '.3g')} with it and up to "
            f"{_each(largest[none], '.3g')} without.",
            largest[batch] - largest[none],
        ),
        Claim(
            "better_on_test_pictures",
            "It generalizes better",
            f"At its best rate each, {_percent(right[batch])} of the test pictures are right with "
            f"it and {_percent(right[none])} without.",
            right[batch] - right[none],
        ),
        Claim(
            "smaller_gap",
            "It narrows the gap between training and test",
            f"At its best rate each, the test loss is above the training loss by "
            f"{_each(gap[batch], '.2f')} nats with it and by {_each(gap[none], '.2f')} without.",
            gap[none] - gap[batch],
        ),
        Claim(
            "noise_regularizes",
            "The noise of its statistics regularizes",
            f"In gradients of equally many pictures, with the statistics of {told_groups} pictures "
            f"each, {'; '.join(map(_percent, by_group))} of the test pictures are right.",
            by_group[-2] - by_group[-1] if len(groups) > 1 else np.full_like(by_group[-1], np.nan),
        ),
    ]


def of_scale(arrays: Arrays) -> Claim:
    """Judges what `activation_scale.study` measured; its gains take the place of seeds."""
    none, batch = (arrays["norms"].tolist().index(norm) for norm in ("none", "batch"))
    found, gains = drift(arrays), arrays["gains"]
    layers = arrays["rms"].shape[-1]
    told = ", ".join(
        f"{found[batch, place]:.3g} with it and {found[none, place]:.3g} without at a gain of "
        f"{gain:g}"
        for place, gain in enumerate(gains)
    )
    return Claim(
        "steady_scale",
        "It keeps activations at one scale, whatever the depth and the first weights",
        f"Over {layers} untrained layers they change by a factor of {told}.",
        STEADY - found[batch],
    )


def figures(claims: list[Claim]) -> dict[str, float]:
    """Returns the share of seeds in which each claim is true, by name."""
    return {f"claim_{claim.name}": claim.share for claim in claims}


def curves(arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns what the report draws of speed.

    `curves_at_plain_rate` and `curves_at_own_rate [norm, seed, step]` are smoothed losses at the
    fastest rate of the network without a norm, and of each; `first_step` is their first place,
    `fastest [norm]` and `target` are what the claims were judged by.
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
    """Returns means of SPAN steps (of all, if there are fewer) of `losses [..., step]`.

    The last axis starts where the first SPAN steps end.
    """
    span, losses = min(SPAN, losses.shape[-1]), np.float64(losses)
    return np.lib.stride_tricks.sliding_window_view(losses, span, axis=-1).mean(axis=-1)


def steps_to_target(arrays: Arrays) -> np.ndarray:
    """Returns after how many steps the loss was at TARGET, `[norm, rate, seed]`; inf: never."""
    losses = arrays["step_loss"]
    there = smoothed(losses) <= TARGET
    first = min(SPAN, losses.shape[-1])
    return np.where(there.any(axis=-1), there.argmax(axis=-1) + first, np.inf)


def fastest(arrays: Arrays) -> np.ndarray:
    """Returns the place `[norm]` of the rate that comes to TARGET first, in the median of seeds.

    Where none does, it is the rate with the lowest training loss.
    """
    steps = np.median(steps_to_target(arrays), axis=-1)
    losses = np.nan_to_num(arrays["train_loss"], nan=np.inf).mean(axis=-1)
    return np.where(np.isfinite(steps).any(axis=-1), steps.argmin(axis=-1), losses.argmin(axis=-1))


def largest_rate(arrays: Arrays) -> np.ndarray:
    """Returns the largest rate `[norm, seed]` whose test accuracy is near that of the best."""
    accuracy = arrays["test_accuracy"]
    near = accuracy >= accuracy.max(axis=1, keepdims=True) - TOLERANCE
    return np.where(near, arrays["rates"][None, :, None], 0).max(axis=1)


def _less(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns `theirs - ours`, NaN where neither is finite."""
    with np.errstate(invalid="ignore"):
        return theirs - ours


def _steps(steps: np.ndarray) -> str:
    if np.isinf(steps).all():
        return "never"
    told = [f"{count:.0f}" if np.isfinite(count) else "never" for count in steps]
    return f"after {', '.join(told)} steps"


def _each(values: np.ndarray, form: str) -> str:
    told = [f"{value:{form}}" for value in values]
    return told[0] if len(set(told)) == 1 else ", ".join(told)


def _percent(shares: np.ndarray) -> str:
    return f"{', '.join(f'{100 * share:.1f}' for share in shares)} %"
