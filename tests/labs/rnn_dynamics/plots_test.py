"""Tests of jaxlabs/labs/rnn_dynamics/plots.py: figures and captions show their arrays."""

import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics import plots
from jaxlabs.report import lines, style


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def clipping_arrays(last):
    loss = np.full((2, 2, 20), 0.1)
    loss[0, :, 10:] = last
    return {
        "loss": loss,
        "norm": np.ones_like(loss),
        **{"baseline": np.array(0.2), "grad_clip_norm": np.array(0.5), "rate": np.array(0.1)},
        **{"radius": np.array(1.2), "length": np.array(20), "divergence_threshold": np.array(10.0)},
    }


def test_clipping_reports_the_number_of_diverged_runs():
    item = plots.clipping(clipping_arrays(np.nan))
    assert "Without clipping 2 of 2 runs diverge" in item.caption
    assert (
        "none of 2 runs diverges, and the median final loss is 0.50 of the baseline" in item.caption
    )
    crosses = [line for line in item.figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [10, 10]
    item = plots.clipping(clipping_arrays(0.1))
    assert "Without clipping none of 2 runs diverges" in item.caption


def sweep_arrays(driven):
    radii = np.array([0.5, 1.0, 2.0])
    powers = radii[:, None] ** np.arange(5)[None]
    found = {"radii": radii}
    for name in ("orthogonal", "gaussian"):
        found |= {f"{name}_rest": powers, f"{name}_rest_factor": radii}
        found |= {f"{name}_driven": powers, f"{name}_driven_factor": np.array(driven)}
    return found


def test_spectral_sweep_reports_the_radius_of_growing_gradients():
    item = plots.spectral_sweep(sweep_arrays([0.4, 0.8, 1.3]))
    assert "gradients grow only at radii of 2 and above" in item.caption
    assert "at radius 1 a step keeps 0.80" in item.caption
    item = plots.spectral_sweep(sweep_arrays([0.4, 0.7, 0.9]))
    assert "gradients grow at no radius shown" in item.caption


def rules_arrays(shared):
    loss = np.full((2, 3, 2, 10), 0.01)
    loss[1, 0] = shared
    return {
        "rules": np.array(["position independent", "position dependent"]),
        "networks": np.array(["shared", "unshared", "shared, position input"]),
        "parameters": np.array([305, 4880, 561]),
        "loss": loss,
        "chance": np.log(2),
    }


def test_rules_report_a_difference_only_if_there_is_one():
    item = plots.rules(rules_arrays(0.25))
    assert "25 times that with unshared weights" in item.caption
    item = plots.rules(rules_arrays(0.011))
    assert "no clear difference" in item.caption


def memory_arrays(final, task="adding"):
    final = np.array(final)[:, :, None]
    found = {"task": task, "lengths": [50, 100], "kinds": ["rnn", "gru"], "final": final}
    found |= {"curves": np.repeat(final[..., None], 4, axis=-1), "baseline": [0.5, 0.25]}
    found |= {"steps": 8, "hidden_size": 4}
    return {name: np.asarray(value) for name, value in found.items()}


def test_memory_task_reports_solved_lengths():
    item = plots.memory_task(memory_arrays([[1.1, 1.0], [0.02, 0.3]]))
    assert "rnn: 1.1 at 50, 1 at 100; gru: 0.02 at 50, 0.3 at 100" in item.caption
    assert "Solved (below half of the baseline): gru up to 100." in item.caption
    lines = item.figure.axes[0].get_lines()
    np.testing.assert_allclose(lines[2].get_ydata(), [0.02, 0.3])
    item = plots.memory_task(memory_arrays([[1.0, 1.0], [0.9, 1.0]], "copying"))
    assert "None is below half" in item.caption
    assert "Below 0.95 at some length: gru." in item.caption


def test_powers_of_ten_use_superscripts():
    assert lines.power_of_ten(2e-12) == "10⁻¹²"
    assert lines.power_of_ten(1000) == "10³"
    assert lines.power_of_ten(0) == "0"
