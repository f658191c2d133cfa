"""What a comparison of two groups of runs says, in words, and how many seeds would decide it.

Both groups are trained with the same seeds, and the differences by seed are tested with Student's
t-test for paired samples at the 5 % level (95 % confidence, `CONFIDENCE`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs.runner.sweep_plan import CONFIDENCE

POWER = 0.8
"""Probability with which the number of seeds of `seeds_needed` finds the difference."""

MAX_SEEDS = 1000
"""Differences that take more seeds than this are of no practical importance."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The comparison of a group of runs with the first one.

    Attributes:
      group: name of the group.
      first: name of the first group.
      difference: mean over the common seeds of the metric, minus that of the first group; nan if
        a run diverged, None without common seeds.
      low, high: Student interval of the difference; None with fewer than two common seeds.
      seeds: number of common seeds.
      more_seeds: number of further seeds that an undecided comparison needs; None if it is decided
        or if it needs more than `MAX_SEEDS`.
    """

    group: str
    first: str
    difference: float | None
    low: float | None
    high: float | None
    seeds: int
    more_seeds: int | None = None

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        if self.difference is None:
            return f"undecided without a common seed of {self.group} and {self.first}"
        if math.isnan(self.difference):
            return f"undecided: a run of {self.group} or {self.first} has no finite value"
        more = f"{self.difference:+.4g}".replace("-", "−")
        if self.low is None:
            text = f"undecided with one common seed: {self.group} − {self.first} = {more}"
            return f"{text}; an interval takes at least 1 more seed of each"
        if self.low == self.high == 0:
            return f"{self.group} and {self.first} are equal for every seed"
        low, high = (f"{value:+.4g}".replace("-", "−") for value in (self.low, self.high))
        interval = f"{CONFIDENCE:.0%} interval {low} to {high}, {self.seeds} seeds"
        if self.decided:
            word = "lower" if self.difference < 0 else "higher"
            size = f"{abs(self.difference):.4g}"
            return f"{self.group} is {word} than {self.first} by {size} ({interval})"
        text = f"undecided: {self.group} − {self.first} = {more} ({interval})"
        if self.more_seeds is None:
            return f"{text}; if there is a difference, it takes more than {MAX_SEEDS:,} seeds"
        return (
            f"{text}; a difference of this size takes about {self.more_seeds} more seeds"
            f" ({POWER:.0%} power)"
        )


def verdicts(groups: Sequence[Mapping[str, Any]], metric: str) -> list[Verdict]:
    """Compares every group but the first with the first one.

    Args:
      groups: rows of `compare_groups`, whose only setting is the name of the group.
      metric: name of the metric in the rows.
    """
    first, *others = groups
    return [_verdict(first, group, metric) for group in others]


def _verdict(first: Mapping[str, Any], group: Mapping[str, Any], metric: str) -> Verdict:
    before, after = (
        dict(zip(row["seeds"], row["metrics"][metric]["values"], strict=True))
        for row in (first, group)
    )
    differences = [after[seed] - before[seed] for seed in after if seed in before]
    interval = group["metrics"][metric]
    verdict = Verdict(
        group=group["settings"]["group"],
        first=first["settings"]["group"],
        difference=float(np.mean(differences)) if differences else None,
        low=interval["low"],
        high=interval["high"],
        seeds=len(differences),
    )
    if verdict.low is None or verdict.decided:
        return verdict
    needed = seeds_needed(differences)
    return dataclasses.replace(verdict, more_seeds=needed and max(1, needed - len(differences)))


def seeds_needed(differences: Sequence[float]) -> int | None:
    """Returns how many seeds would show a difference like the observed one; None: over `MAX_SEEDS`.

    If the differences by seed are normal with the observed mean d and standard deviation s, the
    statistic of the paired t-test over n seeds has the noncentral t-distribution with n - 1 degrees
    of freedom and noncentrality sqrt(n) d / s. The result is the smallest n whose test rejects
    equality with probability `POWER`. For large n this is (1.96 + 0.84)^2 (s / d)^2. It is
    optimistic: a difference that was looked for, and found, is on average overestimated.

    Source: Cohen (1988), "Statistical power analysis for the behavioral sciences", chapter 2.
    """
    differences = np.array(differences)
    deviation = differences.std(ddof=1)
    if not np.isfinite(deviation) or differences.mean() == 0:
        return None
    if deviation == 0:
        return 2
    effect = abs(differences.mean()) / deviation
    counts = np.arange(2, MAX_SEEDS + 1)
    enough = np.flatnonzero(power(effect, counts) >= POWER)
    return int(counts[enough[0]]) if enough.size else None


def power(effect: float, seeds: np.ndarray) -> np.ndarray:
    """Returns the probability that the paired t-test finds a difference, for numbers of `seeds`.

    Args:
      effect: Cohen's d_z, the mean of the differences over their standard deviation.
      seeds: numbers of seeds.
    """
    import scipy.stats  # slow to import

    limit = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    statistic = scipy.stats.nct(seeds - 1, effect * np.sqrt(seeds))
    return statistic.sf(limit) + statistic.cdf(-limit)
