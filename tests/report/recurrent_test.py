"""Pictures of recurrent networks show the numbers that they are given, and say what these mean."""

import numpy as np
import pytest

from jaxlabs.report import log_axis, recurrent_gradients, recurrent_memory, style


@pytest.fixture(autouse=True)
def in_house_style():
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


def test_clipping_says_how_many_runs_blow_up():
    (picture,) = recurrent_gradients.clipping(clipping_arrays(np.nan))
    assert "Without clipping 2 of 2 runs blow up" in picture.caption
    assert "none of 2 runs blows up, and the median ends at 0.50 of the baseline" in picture.caption
    crosses = [line for line in picture.figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [10, 10]
    (picture,) = recurrent_gradients.clipping(clipping_arrays(0.1))
    assert "Without clipping none of 2 runs blows up" in picture.caption


def sweep_arrays(driven):
    radii = np.array([0.5, 1.0, 2.0])
    powers = radii[:, None] ** np.arange(5)[None]
    found = {"radii": radii}
    for name in ("orthogonal", "gaussian"):
        found |= {f"{name}_rest": powers, f"{name}_rest_factor": radii}
        found |= {f"{name}_driven": powers, f"{name}_driven_factor": np.array(driven)}
    return found


def test_sweep_says_from_which_radius_gradients_grow():
    (picture,) = recurrent_gradients.spectral_sweep(sweep_arrays([0.4, 0.8, 1.3]))
    assert "only radii from 2 on still make gradients grow" in picture.caption
    assert "at a radius of 1 a step keeps 0.80" in picture.caption
    (picture,) = recurrent_gradients.spectral_sweep(sweep_arrays([0.4, 0.7, 0.9]))
    assert "no radius here makes gradients grow" in picture.caption


def rules_arrays(shared):
    loss = np.full((2, 3, 2, 10), 0.01)
    loss[1, 0] = shared
    return {
        "rules": np.array(["the same everywhere", "its own at every position"]),
        "networks": np.array(["shared", "unshared", "shared, told the position"]),
        "parameters": np.array([305, 4880, 561]),
        "loss": loss,
        "chance": np.log(2),
    }


def test_rules_say_that_shared_weights_find_it_hard_only_where_they_do():
    (picture,) = recurrent_memory.rules(rules_arrays(0.25))
    assert "25 times that of the unshared one" in picture.caption
    (picture,) = recurrent_memory.rules(rules_arrays(0.011))
    assert "not to be seen yet" in picture.caption


def memory_arrays(final, task="adding"):
    final = np.array(final)[:, :, None]
    found = {"task": task, "lengths": [50, 100], "kinds": ["rnn", "gru"], "final": final}
    found |= {"curves": np.repeat(final[..., None], 4, axis=-1), "baseline": [0.5, 0.25]}
    found |= {"steps": 8, "hidden": 4}
    return {name: np.asarray(value) for name, value in found.items()}


def test_memory_task_says_who_learned_what():
    (picture,) = recurrent_memory.memory_task(memory_arrays([[1.1, 1.0], [0.02, 0.3]]))
    assert "rnn: 1.1 at 50, 1 at 100; gru: 0.02 at 50, 0.3 at 100" in picture.caption
    assert "Learned (below half of the baseline): gru up to 100." in picture.caption
    lines = picture.figure.axes[0].get_lines()
    np.testing.assert_allclose(lines[2].get_ydata(), [0.02, 0.3])
    (picture,) = recurrent_memory.memory_task(memory_arrays([[1.0, 1.0], [0.9, 1.0]], "copying"))
    assert "None gets below half" in picture.caption
    assert "Under way, at 0.95 or less somewhere: gru." in picture.caption


def test_powers_of_ten_are_written_raised():
    assert log_axis.power_of_ten(2e-12) == "10⁻¹²"
    assert log_axis.power_of_ten(1000) == "10³"
    assert log_axis.power_of_ten(0) == "0"
