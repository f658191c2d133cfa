"""Sweeps: the runs that answer one question, and the comparison of their metrics."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

CONFIDENCE = 0.95
"""Confidence level of the interval of a mean difference."""

MAX_METRICS = 3
"""Number of metrics that a table shows of a lab without named main metrics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs of one lab over every combination of some settings.

    Attributes:
      question: the question that the runs answer, in one sentence.
      axes: the values of each setting, by flag name; an axis "seed" repeats every combination of
        the others.
      metrics: names of the final metrics that answer the question.
      settings: settings of all runs on top of the preset, by flag name; flags override them.
      derived_settings: `settings of a run -> further settings`, such as fewer steps for larger
        batches; flags override them.
    """

    question: str
    axes: Mapping[str, Sequence[Any]]
    metrics: Sequence[str]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    derived_settings: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda point: {}

    def points(self) -> list[dict[str, Any]]:
        """Returns the settings of every run; the seed varies fastest."""
        names = sorted(self.axes, key=lambda name: name == "seed")
        values = itertools.product(*(self.axes[name] for name in names))
        return [dict(zip(names, combination, strict=True)) for combination in values]

    def planned(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of a run on top of the preset, which flags override."""
        return dict(self.settings) | dict(self.derived_settings(point))


def precision_sweep(*metrics: str, **settings: Any) -> Sweep:
    """Returns the sweep that compares bfloat16 with float32 activations, paired by seed.

    Args:
      metrics: names of the final metrics, see `Sweep`.
      settings: settings of all runs on top of the preset. Matmuls of float32 are strictly so.
    """
    return Sweep(
        question="Does a model with bfloat16 activations learn what one with float32 learns?",
        axes={"compute_dtype": ("float32", "bfloat16"), "seed": (0, 1, 2)},
        metrics=metrics,
        settings={"matmul_precision": "highest"} | settings,
    )


def run_name(point: Mapping[str, Any]) -> str:
    """Returns the folder name of a run of a sweep; characters that Windows refuses are escaped."""
    name = ",".join(f"{name}={flag_value(value)}" for name, value in point.items())
    return re.sub(r'[%<>:"/\\|?*\x00-\x1f]|[. ]$', lambda found: f"%{ord(found[0]):02X}", name)


def flag_value(value: Any) -> str:
    """Returns the value of a setting as on the command line."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def compare_groups(
    runs: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the metrics of every combination of settings, compared with the first one.

    Args:
      runs: rows with `point`, the settings of a run, and `metrics`; a metric of a diverged run is
        missing or non-finite and makes the mean nan.
      metrics: names of the metrics to compare.

    Returns:
      One row per combination, over all seeds: `settings`, `seeds`, names of the `runs`, and
      `metrics`, by name: `mean`, `deviation` (sample standard deviation; None for one seed) and
      `values` by seed. All rows but the first also have `difference`, the mean over seeds of the
      difference from the first row, and its Student interval `low`, `high`; these are None with
      fewer than two common seeds.
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
                name: _statistics(seeds, None if seeds is by_seed[0] else by_seed[0], name)
                for name in metrics
            },
        }
        for group, seeds in zip(groups.values(), by_seed, strict=True)
    ]


def _without_seed(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != "seed"}


def _statistics(seeds, first, name) -> dict[str, Any]:
    values = np.array([_finite_or_nan(metrics.get(name)) for metrics in seeds.values()])
    std = float(values.std(ddof=1)) if values.size > 1 else None
    row = {"mean": float(values.mean()), "std": std, "values": values.tolist()}
    if first is None:
        return row
    shared = [seed for seed in seeds if seed in first]
    differences = [
        _finite_or_nan(seeds[s].get(name)) - _finite_or_nan(first[s].get(name)) for s in shared
    ]
    return row | _paired(np.array(differences))


def _paired(differences: np.ndarray) -> dict[str, float | None]:
    """Returns the mean of paired differences with its interval (Student 1908)."""
    if differences.size < 2:
        return {"difference": None, "low": None, "high": None}
    import scipy.stats  # slow to import, and only the end of a sweep needs it

    mean, error = float(differences.mean()), float(scipy.stats.sem(differences))
    half_width = error * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, differences.size - 1))
    return {"difference": mean, "low": mean - half_width, "high": mean + half_width}


def _finite_or_nan(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else float("nan")
