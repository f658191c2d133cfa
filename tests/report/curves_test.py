"""Tests of jaxlabs/report/curves.py: series, smoothing and the range test."""

import numpy as np
import pytest

from jaxlabs.report import curves, style


def test_series_is_sorted_and_finite():
    rows = [
        {"step": 3, "split": "train", "loss": 1.0},
        {"step": 1, "split": "train", "loss": 3.0},
        {"step": 2, "split": "train", "loss": None},
        {"step": 4, "split": "train", "loss": float("inf")},
        {"step": 5, "split": "train", "learning_rate": 0.1},
        {"step": 1, "split": "held_out", "loss": 9.0},
    ]
    steps, values = curves.series(rows, "train", "loss")
    np.testing.assert_array_equal(steps, [1, 3])
    np.testing.assert_array_equal(values, [3, 1])


def test_series_without_rows_is_empty():
    steps, values = curves.series([], "train", "loss")
    assert steps.size == values.size == 0


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_smoothing_equals_the_mean_of_a_symmetric_window(count):
    values = np.random.default_rng(0).normal(size=count)
    half = max(count // 60, 1)
    expected = []
    for i in range(count):
        reach = min(half, i, count - 1 - i)
        expected.append(np.mean(values[i - reach : i + reach + 1]))
    np.testing.assert_allclose(curves.smoothed(values), expected, atol=1e-12)


def test_smoothing_preserves_a_straight_line():
    line = np.linspace(4, 1, 500)
    np.testing.assert_allclose(curves.smoothed(line), line, atol=1e-12)


def test_optimization_shows_a_panel_for_each_logged_value():
    row = {"step": 1, "split": "train", "learning_rate": 1e-3, "gradient_norm": 0.5}
    rows = [row, row | {"step": 2}]
    with style.mpl_style():
        both = curves.optimization(rows).figure
        one = curves.optimization(
            [{k: r[k] for k in r if k != "gradient_norm"} for r in rows]
        ).figure
    assert [axes.get_title("left") for axes in both.axes] == ["learning rate", "gradient norm"]
    assert [axes.get_title("left") for axes in one.axes] == ["learning rate"]
    assert curves.optimization([{"step": 1, "split": "train"}]) is None


def test_range_test_marks_steepest_slope_and_lowest_loss():
    rates = np.geomspace(1e-4, 1, 81)
    # A smooth decrease around 0.001, then an increase from 0.1.
    exponent = np.log10(rates)
    loss = 4 - 2 / (1 + np.exp(-6 * (exponent + 3))) + 3 * np.maximum(exponent + 1, 0)
    item = curves.learning_rate_range({"learning_rate": rates, "loss": loss})
    steepest, lowest = item.figure.axes[0].get_lines()[2:]
    assert steepest.get_xdata()[0] == pytest.approx(1e-3, rel=0.1)
    assert lowest.get_xdata()[0] == pytest.approx(0.1, rel=0.2)


def test_range_test_shows_all_losses_below_zero():
    rates = np.geomspace(1e-4, 1, 81)
    loss = -1000 + 100 * np.abs(np.log10(rates) + 2)
    (axes,) = curves.learning_rate_range({"learning_rate": rates, "loss": loss}).figure.axes
    bottom, top = axes.get_ylim()
    assert bottom < loss.min()
    assert top > loss[0]


def test_range_test_of_equal_losses_is_plotted():
    arrays = {"learning_rate": np.geomspace(1e-4, 1, 9), "loss": np.ones(9)}
    assert curves.learning_rate_range(arrays).figure.axes[0].get_ylim() == (0, 2)


def test_range_test_with_too_few_finite_values_plots_nothing():
    arrays = {"learning_rate": np.array([0.1, 0.2]), "loss": np.array([4.0, np.nan])}
    assert curves.learning_rate_range(arrays) is None
