"""Tests of jaxlabs/labs/worked_problems/plots.py: figures and captions show their arrays."""

import numpy as np
import pytest

from jaxlabs.labs.worked_problems import plots as worked_problems
from jaxlabs.report import style


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def test_scale_reports_both_gradients():
    quantiles = np.tile([0.05, 0.1, 0.15], (3, 1))
    arrays = {f"{kind}_{name}": quantiles for kind in ("raw", "scaled") for name in ("variance",)}
    arrays |= {"raw_gradient": quantiles / 100, "scaled_gradient": quantiles * 4}
    arrays |= {"dims": np.array([1, 2, 4]), "one_hot": np.array(0.1875)}
    item = worked_problems.scale(arrays)
    assert "at d_k = 4 falls to 0.001; scaled, it stays at 0.40" in item.caption
    raw, *_ = item.figure.axes[1].lines
    np.testing.assert_allclose(raw.get_ydata(), 0.001)


def test_ravine_plots_every_path_and_reports_the_optimal_momentum():
    paths = np.geomspace(1, [0.5, 0.2, 0.1], 5).T[..., None] * np.array([10.0, 1.0])
    arrays = {"paths": paths, "names": np.array(["a", "b", "c"]), "rates": np.full(3, 0.1)}
    arrays |= {"momenta": np.array([0, 0.9, 4 / 9]), "curvatures": np.array([1.0, 25.0])}
    item = worked_problems.ravine(arrays)
    assert "((√25 − 1) / (√25 + 1))² = 0.444. Distance after 4 steps" in item.caption
    upper, lower = item.figure.axes
    np.testing.assert_allclose(upper.lines[2].get_xydata(), paths[2])
    np.testing.assert_allclose(lower.lines[1].get_ydata(), np.linalg.norm(paths[1], axis=-1))
    np.testing.assert_allclose(lower.lines[3].get_ydata()[1] / np.hypot(10, 1), 2 / 3)


def test_batch_norm_hollow_markers_show_only_corrected_values():
    values = np.zeros((2, 3, 2, 3))
    values[1, 1, 0, 1] = 6.0
    item = worked_problems.batch_norm(
        {"values": values, "normalized": values, "training": np.array(2)}
    )
    hollow = [
        line.get_xydata()
        for line in item.figure.axes[0].lines
        if line.get_markerfacecolor() == "none" and len(line.get_xydata())
    ]
    np.testing.assert_allclose(np.concatenate(hollow)[:, 1], [6.0])


def test_temperature_reports_the_share_of_the_hardest_negative():
    gradients = np.array([[-0.5, 0.45, 0.05], [-1.0, 0.6, 0.4]])
    arrays = {"temperatures": np.array([0.02, 2.0]), "cosines": np.array([0.8, 0.5, -0.2])}
    item = worked_problems.temperature(arrays | {"gradients": gradients})
    assert "dominates (90% of the repulsion at 0.02)" in item.caption
    assert "Attraction is strongest at temperature 2." in item.caption
    labels = [text.get_text() for text in item.figure.legends[0].get_texts()]
    assert labels[2] == "negative, cosine −0.2"
