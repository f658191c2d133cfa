"""LSTM gradient paths: product of forget gates along the cell state, the rest through h."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxlabs.labs.rnn_dynamics import dynamics, lstm_gradient_paths, network

TIME, HIDDEN_SIZE = 7, 4


@pytest.fixture(scope="module")
def case():
    """Parameters, inputs and targets in float64, with perturbed biases."""
    random = np.random.default_rng(0)
    params = network.initial_params("lstm", 2, HIDDEN_SIZE, 1, 0)
    params = {name: np.float64(array) + 0.1 * random.standard_normal(array.shape)
              for name, array in params.items()}  # fmt: skip
    return params, random.standard_normal((2, TIME, 2)), np.array([1.0, -1.0])


@pytest.fixture(scope="module")
def paths(case):
    params, inputs, targets = case
    with jax.enable_x64(True):
        measure = jax.jit(
            lambda params, stop: lstm_gradient_paths.cell_paths(
                params,
                jnp.asarray(inputs),
                dynamics.final_output_loss(params, targets),
                stop_gate_gradients=stop,
            ),
            static_argnums=1,
        )
        return {stop: jax.tree.map(np.asarray, measure(params, stop)) for stop in (False, True)}


def reference_loss(params, inputs, targets, step=None, perturbation=0.0):
    """Squared error of an LSTM in plain numpy, with a perturbation of c at one step."""
    h = c = np.zeros((len(inputs), HIDDEN_SIZE))
    for time in range(TIME):
        a = inputs[:, time] @ params["input_kernel"] + params["bias"]
        i, f, g, o = np.split(a + h @ params["recurrent_kernel"], 4, axis=1)
        c = expit(f) * c + expit(i) * np.tanh(g) + (perturbation if time == step else 0.0)
        h = expit(o) * np.tanh(c)
    outputs = (h @ params["head_kernel"] + params["head_bias"])[:, 0]
    return np.square(outputs - targets).sum()


@pytest.mark.parametrize("step", [0, TIME - 2, TIME - 1])
def test_total_equals_finite_differences(case, paths, step):
    for row, unit in ((0, 1), (1, 3)):
        perturbation = np.zeros((2, HIDDEN_SIZE))
        perturbation[row, unit] = 1e-5
        ahead, behind = (reference_loss(*case, step, sign * perturbation) for sign in (1, -1))
        assert paths[False].total[row, step, unit] == pytest.approx(
            (ahead - behind) / 2e-5, rel=1e-6
        )


def test_cell_path_is_product_of_forget_gates(paths):
    np.testing.assert_allclose(paths[True].total, paths[True].product, rtol=1e-12)
    np.testing.assert_allclose(paths[False].product, paths[True].product, rtol=1e-12)
    assert np.abs(paths[False].total / paths[True].total - 1)[:, 0].max() > 0.01


def test_one_step_is_sum_of_forget_gate_and_path_through_h(case, paths):
    params, inputs, targets = case
    with jax.enable_x64(True):
        (_, c), (_, forget, _, output) = network.trace("lstm", params, jnp.asarray(inputs))
        loss = dynamics.final_output_loss(params, targets)
        by_h, _ = dynamics.state_gradients("lstm", params, jnp.asarray(inputs), loss)
        c, forget, output, by_h = map(np.asarray, (c, forget, output, by_h))
    total = paths[False].total
    through_h = by_h * output * (1 - np.tanh(c) ** 2)
    np.testing.assert_allclose(
        total[:, :-1], forget[:, 1:] * total[:, 1:] + through_h[:, :-1], rtol=1e-12, atol=1e-15
    )


def test_study_is_relative_to_last_gradient(case, paths):
    params, inputs, targets = case
    result = lstm_gradient_paths.paths_study({"one": params}, inputs, targets)
    norms = np.linalg.norm(paths[False].total, axis=-1)
    expected = np.median(norms / norms[:, -1:], axis=0)
    np.testing.assert_allclose(result["total"][0], expected, rtol=1e-9)
    others = np.linalg.norm(paths[False].total - paths[False].product, axis=-1)
    expected = np.median(others / norms[:, -1:], axis=0)
    np.testing.assert_allclose(result["others"][0], expected, rtol=1e-9)
    assert result["stop_gradient_error"][0] < 1e-12
    assert 0 < result["forget"][0] < 1


def test_gates_are_sorted_by_mean_retention_gate():
    inputs = np.zeros((1, TIME, 2), np.float32)
    inputs[0, [1, 5], 1] = 1
    networks = {
        cell: (cell, network.initial_params(cell, 2, HIDDEN_SIZE, 1, 0, span=9))
        for cell in ("lstm", "gru")
    }
    result = lstm_gradient_paths.gate_activations(networks, inputs)
    np.testing.assert_array_equal(result["markers"], [1, 5])
    assert {name for name in result if "_" in name} == {
        "lstm_input",
        "lstm_forget",
        "lstm_output",
        "gru_reset",
        "gru_update",
    }
    for retention in (result["lstm_forget"], result["gru_update"]):
        assert retention.shape == (HIDDEN_SIZE, TIME)
        assert (np.diff(retention.mean(axis=1)) <= 0).all()
    # At the first step the state is zero: the gates depend on bias and input only.
    gate = expit(networks["lstm"][1]["bias"][:HIDDEN_SIZE])
    np.testing.assert_allclose(np.sort(result["lstm_input"][:, 0]), np.sort(gate), rtol=1e-5)
