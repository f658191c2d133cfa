"""The two runs differ in clipping alone."""

import numpy as np
import pytest

from jaxlabs.analysis import clipping


@pytest.fixture(scope="module")
def found():
    return clipping.study(steps=12, seeds=(0, 1))


def test_both_runs_start_alike(found):
    assert found["loss"].shape == found["norm"].shape == (2, 2, 12)
    np.testing.assert_allclose(found["loss"][0, :, 0], found["loss"][1, :, 0], rtol=1e-6)
    np.testing.assert_allclose(found["norm"][0, :, 0], found["norm"][1, :, 0], rtol=1e-6)
    assert found["loss"][0, 0, 0] != found["loss"][0, 1, 0]


def test_clipping_keeps_a_run_from_blowing_up(found):
    named = clipping.figures(found)
    assert (found["norm"][0, :, 0] > clipping.CLIP_NORM).all()
    assert named["runs_blown_up_without_clipping"] == 2
    assert named["runs_blown_up_with_clipping"] == 0
    assert named["final_loss_over_baseline_with_clipping"] < 10


def test_a_run_that_is_not_finite_has_blown_up():
    loss = np.ones((2, 3, 4)) / 6
    loss[0, 0, 2:] = np.nan
    loss[0, 1, 1] = 2.0
    named = clipping.figures({"loss": loss, "baseline": np.array(1 / 6)})
    assert named["runs_blown_up_without_clipping"] == 2
    assert named["runs_blown_up_with_clipping"] == 0
    assert named["final_loss_over_baseline_with_clipping"] == 1
