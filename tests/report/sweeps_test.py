"""Tests of the figures of sweeps and published curves."""

import numpy as np
import pytest

from jaxlabs.published import PublishedCurve
from jaxlabs.report import style, sweeps
from jaxlabs.report.published_curves import published_comparison


def group(settings, values, runs=()):
    values = list(values)
    figure = {"mean": float(np.mean(values)), "std": 0.1, "values": values}
    return {"settings": settings, "metrics": {"loss": figure}, "seeds": [0, 1], "runs": list(runs)}


GROUPS = [
    group({"window": window, "norm": norm}, [level, level + 1], [f"{window}-{norm}"])
    for level, (window, norm) in enumerate([(None, "layer"), (8, "layer"), (None, "rms")])
]


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def test_means_are_at_their_setting_with_one_line_per_other_setting():
    item = sweeps.against_settings(GROUPS, "Which?")
    (axes,) = item.figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "8"]
    lines = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    np.testing.assert_allclose(lines["norm layer"].get_xydata(), [[0, 0.5], [1, 1.5]])
    np.testing.assert_allclose(lines["norm rms"].get_xydata(), [[0, 2.5]])
    assert item.caption.startswith("Which?")


def test_sweep_over_seeds_only_has_no_figure():
    assert sweeps.against_settings([group({}, [1.0, 2.0])], "How much is luck?") is None


def test_losses_are_means_over_runs_of_a_group():
    rows = [
        [{"step": step, "split": "held_out", "loss": loss + step} for step in (0, 5)]
        for loss in (1.0, 3.0)
    ]
    one = group({"window": 8}, [1.0, 3.0], ["a", "b"])
    item = sweeps.losses([one], {"a": rows[0], "b": rows[1]}, "nats")
    (axes,) = item.figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 2.0], [5, 7.0]])


def test_caption_counts_the_groups_that_are_not_shown():
    rows = [{"step": step, "split": "held_out", "loss": 1.0} for step in (0, 5)]
    groups = [group({"window": size}, [1.0], [str(size)]) for size in range(sweeps.MAX_CURVES + 2)]
    item = sweeps.losses(groups, {str(size): rows for size in range(len(groups))}, "nats")
    assert len(item.figure.axes[0].lines) == sweeps.MAX_CURVES
    assert item.caption.endswith(" 2 more groups are not shown.")


def test_sweep_without_evaluations_has_no_losses():
    assert sweeps.losses([group({"window": 8}, [1.0], ["a"])], {"a": []}, "nats") is None


def test_published_values_are_markers_beside_logged_values():
    curve = PublishedCurve(
        presets=("p",),
        split="test",
        metric="accuracy",
        steps=(1, 2),
        values=(0.3, 0.8),
        unit="fraction",
        source="a document",
        note="as stated",
    )
    rows = [{"step": step, "split": "test", "accuracy": step / 10} for step in (0, 1, 2)]
    (axes,) = published_comparison(rows, [curve]).figure.axes
    ours, published = axes.lines
    np.testing.assert_allclose(ours.get_ydata(), [0, 0.1, 0.2])
    np.testing.assert_allclose(published.get_xydata(), [[1, 0.3], [2, 0.8]])
    assert published_comparison([], [curve]) is None
    assert published_comparison(rows, []) is None
