"""Sweeps: the runs that one question needs, and what their figures say together."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

CONFIDENCE = 0.95
"""Of the interval around a mean difference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs of one lab over every combination of some settings.

    Attributes:
      question: what the runs are to answer, in one sentence.
      axes: the values of each setting, by flag name; an axis called "seed" repeats every
        combination of the others.
      metrics: names of the final figures that answer the question.
      settings: what all runs have on top of the preset, by flag name; explicit flags go before.
      follow: returns what else a run has, from its own settings, such as fewer steps of larger
        batches; explicit flags go before.
    """

    question: str
    axes: Mapping[str, Sequence[Any]]
    metrics: Sequence[str]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    follow: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda point: {}

    def points(self) -> list[dict[str, Any]]:
        """Returns the settings of every run, seeds innermost."""
        names = sorted(self.axes, key=lambda name: name == "seed")
        values = itertools.product(*(self.axes[name] for name in names))
        return [dict(zip(names, combination, strict=True)) for combination in values]


def run_name(point: Mapping[str, Any]) -> str:
    """Returns a folder's name for one run of a sweep."""
    return ",".join(f"{name}={told(value)}" for name, value in point.items())


def told(value: Any) -> str:
    """Returns a setting's value as the command line spells it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def compare_groups(
    runs: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns what each combination of settings gave, and how it differs from the first one.

    Args:
      runs: rows with `point`, the run's settings, and `metrics`, its figures; a figure that is
        missing or not finite is a run that came apart, and makes the mean nan.
      metrics: names of the figures to compare.

    Returns:
      One row a combination, seeds taken together: `settings`, `seeds`, the names of its `runs`, and
      `figures`, by name of the figure `mean`, `deviation` (of a sample; None for a single seed) and
      `values` by seed. From the second row on also `difference`, the mean over the seeds of this
      one minus the first one, and `low` and `high`, Student's interval around it; None with fewer
      than two seeds in common.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run_name(_without_seed(run["point"])), []).append(run)
    by_seed = [
        {run["point"].get("seed", 0): run["metrics"] for run in group} for group in groups.values()
    ]
    return [
        {
            "settings": _without_seed(group[0]["point"]),
            "seeds": list(seeds),
            "runs": [run_name(run["point"]) for run in group],
            "metrics": {
                name: _figure(seeds, None if seeds is by_seed[0] else by_seed[0], name)
                for name in metrics
            },
        }
        for group, seeds in zip(groups.values(), by_seed, strict=True)
    ]


def _without_seed(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != "seed"}


def _figure(seeds, first, name) -> dict[str, Any]:
    values = np.array([_number(figures.get(name)) for figures in seeds.values()])
    deviation = float(values.std(ddof=1)) if values.size > 1 else None
    row = {"mean": float(values.mean()), "deviation": deviation, "values": values.tolist()}
    if first is None:
        return row
    shared = [seed for seed in seeds if seed in first]
    differences = [_number(seeds[s].get(name)) - _number(first[s].get(name)) for s in shared]
    return row | _paired(np.array(differences))


def _paired(differences: np.ndarray) -> dict[str, float | None]:
    """Returns the mean of paired differences with its interval (Student 1908)."""
    if differences.size < 2:
        return {"difference": None, "low": None, "high": None}
    mean, error = float(differences.mean()), float(scipy.stats.sem(differences))
    reach = error * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, differences.size - 1))
    return {"difference": mean, "low": mean - reach, "high": mean + reach}


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else float("nan")
