"""Tests of jaxlabs/report/loss.py: curves, baselines and published losses."""

import numpy as np
import pytest

from jaxlabs import published
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import style
from jaxlabs.report.loss import loss_curves


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def rows():
    logged = [
        {"step": step, "split": "train", "loss": 4 - step / 10, "seconds": 2.0 * step}
        for step in range(1, 21)
    ]
    evaluated = [
        {"step": step, "split": "held_out", "loss": 4.1 - step / 10} for step in (0, 10, 20)
    ]
    return [*logged, *evaluated]


def legend(figure):
    (found,) = figure.legends
    return [label.get_text() for label in found.get_texts()]


def labels(figure):
    return [label.get_text() for label in figure.axes[0].texts]


def test_legend_shows_every_split_with_its_last_value():
    assert legend(loss_curves(rows(), {}, []).figure) == ["training: 2.000", "held out: 2.100"]


def test_curves_show_the_logged_values():
    lines = loss_curves(rows(), {}, []).figure.axes[0].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), [4 - step / 10 for step in range(1, 21)])
    np.testing.assert_array_equal(lines[2].get_xdata(), [0, 10, 20])
    np.testing.assert_allclose(lines[2].get_ydata(), [4.1, 3.1, 2.1])


def test_baselines_and_published_losses_are_labeled_lines_at_their_values():
    comparison = published.compare(LAB.published, "reference", {})
    scores = {"chance_accuracy": 0.1, "test_optimal_bleu": 100.0, "test_optimal_exact_match": 1.0}
    item = loss_curves(rows(), {"bigram": 2.47} | scores, comparison)
    shown = labels(item.figure)
    assert "bigram 2.47" in shown
    assert "nanoGPT, best validation loss: 1.4697" in shown
    assert "“validation” loss after 2000 steps: 0.988 (not comparable)" in shown
    # Scores, parameters and seconds are not losses.
    assert len(shown) == 4
    horizontal = item.figure.axes[0].get_lines()[3:]
    assert sorted(line.get_ydata()[0] for line in horizontal) == [0.988, 1.155, 1.4697, 2.47]


def test_not_comparable_lines_are_dotted():
    comparison = published.compare(LAB.published, "quick", {}, not_comparable_reason="another text")
    line = loss_curves(rows(), {}, comparison).figure.axes[0].get_lines()[-1]
    assert line.get_linestyle() == ":"


def test_line_labels_do_not_overlap():
    item = loss_curves(rows(), {"near": 3.5, "nearer": 3.4, "low": 1.0}, [])
    style.png(item.figure)
    texts = {text.get_text(): text for text in item.figure.axes[0].texts}
    # The curves decrease: above their end there is space on the right.
    assert texts["near 3.50"].get_ha() == "right"
    assert texts["low 1.00"].get_ha() == "left"
    boxes = [text.get_window_extent() for text in texts.values()]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_time_axis_follows_the_logged_seconds():
    figure = loss_curves(rows(), {}, []).figure
    style.png(figure)
    (top,) = figure.axes[0].child_axes
    assert top.get_xlabel() == "training time [seconds]"
    low, high = figure.axes[0].get_xlim()
    assert top.get_xlim() == pytest.approx((2 * low, 2 * high))


def test_training_time_is_0_at_step_0_although_no_row_says_so():
    logged = [
        row | ({"seconds": 100 + row["seconds"]} if "seconds" in row else {}) for row in rows()
    ]
    figure = loss_curves(logged, {}, []).figure
    style.png(figure)
    (top,) = figure.axes[0].child_axes
    assert top.get_xlim()[0] <= 0


def test_non_monotonic_time_has_no_axis():
    logged = [row | {"seconds": 5.0} for row in rows()]
    assert not loss_curves(logged, {}, []).figure.axes[0].child_axes


def test_negative_losses_use_a_linear_axis():
    logged = [row | {"loss": row["loss"] - 3} for row in rows()]
    axes = loss_curves(logged, {}, []).figure.axes[0]
    assert axes.get_yscale() == "linear"
    assert loss_curves(rows(), {}, []).figure.axes[0].get_yscale() == "log"


def test_run_without_a_loss_has_no_figure():
    assert loss_curves([], {"bigram": 2.5}, []) is None
    assert loss_curves([{"step": 1, "split": "train", "loss": None}], {}, []) is None


def test_single_row_is_plotted():
    item = loss_curves(rows()[:1], {}, [])
    assert style.png(item.figure).startswith(b"\x89PNG")
