"""Holds the comparison of a sweep's runs to scipy's paired t-test and to sums by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxlabs.sweep_plan import Sweep, compare_groups, run_name

SWEEP = Sweep(question="Which?", axes={"seed": (0, 1, 2), "window": (None, 8)}, metrics=("loss",))


def runs(values):
    """`values [window, seed]` as a sweep's runs, windows None and 8."""
    return [
        {"point": {"window": window, "seed": seed}, "metrics": {"loss": value}}
        for window, row in zip((None, 8), values, strict=True)
        for seed, value in enumerate(row)
    ]


def test_points_are_every_combination_with_seeds_innermost():
    names = [run_name(point) for point in SWEEP.points()]
    assert names[:3] == ["window=none,seed=0", "window=none,seed=1", "window=none,seed=2"]
    assert names[3] == "window=8,seed=0"
    assert len(set(names)) == 6


def test_means_and_paired_interval_are_those_of_scipy():
    values = np.random.default_rng(0).normal(size=(2, 5)) + np.arange(5)[None, :]
    full, window = compare_groups(runs(values), ["loss"])
    assert full["settings"] == {"window": None}
    assert full["runs"][1] == "window=none,seed=1"
    assert "difference" not in full["metrics"]["loss"]
    figure = window["metrics"]["loss"]
    np.testing.assert_allclose(figure["mean"], values[1].mean())
    np.testing.assert_allclose(figure["deviation"], values[1].std(ddof=1))
    paired = scipy.stats.ttest_rel(values[1], values[0])
    low, high = paired.confidence_interval(0.95)
    np.testing.assert_allclose([figure["low"], figure["high"]], [low, high])
    np.testing.assert_allclose(figure["difference"], (values[1] - values[0]).mean())


def test_seed_that_only_one_group_has_is_left_out_of_the_pairs():
    rows = runs([[1.0, 2.0, 9.0], [2.0, 4.0, 0.0]])
    del rows[2]  # the full run of seed 2
    figure = compare_groups(rows, ["loss"])[1]["metrics"]["loss"]
    assert figure["difference"] == 1.5
    assert figure["values"] == [2.0, 4.0, 0.0]


def test_single_seed_has_no_deviation_and_no_interval():
    _, window = compare_groups(runs([[1.0], [2.0]]), ["loss"])
    figure = window["metrics"]["loss"]
    assert figure["deviation"] is None
    assert figure["difference"] is None


@pytest.mark.parametrize("lost", [{}, {"loss": None}, {"loss": math.inf}])
def test_run_that_came_apart_makes_the_mean_no_number(lost):
    rows = runs([[1.0, 2.0], [2.0, 4.0]])
    rows[3]["metrics"] = lost
    assert not math.isfinite(compare_groups(rows, ["loss"])[1]["metrics"]["loss"]["mean"])
