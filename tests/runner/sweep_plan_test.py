"""Tests of jaxlabs/runner/sweep_plan.py against scipy's paired t-test and hand-computed values."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxlabs.runner.sweep_plan import Sweep, compare_groups, run_name

SWEEP = Sweep(question="Which?", axes={"seed": (0, 1, 2), "window": (None, 8)}, metrics=("loss",))


def runs(values):
    """Returns `values [window, seed]` as the runs of a sweep with windows None and 8."""
    return [
        {"point": {"window": window, "seed": seed}, "metrics": {"loss": value}}
        for window, row in zip((None, 8), values, strict=True)
        for seed, value in enumerate(row)
    ]


def test_points_are_all_combinations_with_the_seed_fastest():
    names = [run_name(point) for point in SWEEP.points()]
    assert names[:3] == ["window=none,seed=0", "window=none,seed=1", "window=none,seed=2"]
    assert names[3] == "window=8,seed=0"
    assert len(set(names)) == 6


def test_means_and_paired_interval_equal_scipy():
    values = np.random.default_rng(0).normal(size=(2, 5)) + np.arange(5)[None, :]
    full, window = compare_groups(runs(values), ["loss"])
    assert full["settings"] == {"window": None}
    assert full["runs"][1] == "window=none,seed=1"
    assert "difference" not in full["metrics"]["loss"]
    result = window["metrics"]["loss"]
    np.testing.assert_allclose(result["mean"], values[1].mean())
    np.testing.assert_allclose(result["std"], values[1].std(ddof=1))
    paired = scipy.stats.ttest_rel(values[1], values[0])
    low, high = paired.confidence_interval(0.95)
    np.testing.assert_allclose([result["low"], result["high"]], [low, high])
    np.testing.assert_allclose(result["difference"], (values[1] - values[0]).mean())


def test_unpaired_seed_is_excluded_from_the_difference():
    rows = runs([[1.0, 2.0, 9.0], [2.0, 4.0, 0.0]])
    del rows[2]  # the run of seed 2 without a window
    result = compare_groups(rows, ["loss"])[1]["metrics"]["loss"]
    assert result["difference"] == 1.5
    assert result["values"] == [2.0, 4.0, 0.0]


def test_single_seed_has_no_std_and_no_interval():
    _, window = compare_groups(runs([[1.0], [2.0]]), ["loss"])
    result = window["metrics"]["loss"]
    assert result["std"] is None
    assert result["difference"] is None


@pytest.mark.parametrize("lost", [{}, {"loss": None}, {"loss": math.inf}])
def test_diverged_run_makes_the_mean_nan(lost):
    rows = runs([[1.0, 2.0], [2.0, 4.0]])
    rows[3]["metrics"] = lost
    assert not math.isfinite(compare_groups(rows, ["loss"])[1]["metrics"]["loss"]["mean"])
