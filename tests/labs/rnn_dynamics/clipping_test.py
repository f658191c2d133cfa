"""Clipping study: the runs differ only in clipping."""

import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics import clipping


@pytest.fixture(scope="module")
def result():
    return clipping.study(steps=12, seeds=(0, 1))


def test_runs_have_equal_initial_losses(result):
    assert result["loss"].shape == result["norm"].shape == (2, 2, 12)
    np.testing.assert_allclose(result["loss"][0, :, 0], result["loss"][1, :, 0], rtol=1e-6)
    np.testing.assert_allclose(result["norm"][0, :, 0], result["norm"][1, :, 0], rtol=1e-6)
    assert result["loss"][0, 0, 0] != result["loss"][0, 1, 0]


def test_clipping_prevents_divergence(result):
    metrics = clipping.metrics(result)
    assert (result["norm"][0, :, 0] > clipping.CLIP_NORM).all()
    assert metrics["runs_diverged_without_clipping"] == 2
    assert metrics["runs_diverged_with_clipping"] == 0
    assert metrics["final_loss_over_baseline_with_clipping"] < 10


def test_run_with_nonfinite_loss_diverged():
    loss = np.ones((2, 3, 4)) / 6
    loss[0, 0, 2:] = np.nan
    loss[0, 1, 1] = 2.0
    metrics = clipping.metrics({"loss": loss, "baseline": np.array(1 / 6)})
    assert metrics["runs_diverged_without_clipping"] == 2
    assert metrics["runs_diverged_with_clipping"] == 0
    assert metrics["final_loss_over_baseline_with_clipping"] == 1
