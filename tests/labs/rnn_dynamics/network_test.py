"""The studies' network: its trace has every state and gate; its initialization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics import network
from jaxlabs.layers.rnn_cells import CELLS

INPUTS, HIDDEN_SIZE, OUTPUTS, TIME = 3, 4, 2, 5


@pytest.fixture(scope="module")
def inputs():
    return np.float32(np.random.default_rng(1).standard_normal((2, TIME, INPUTS)))


@pytest.mark.parametrize("cell", CELLS)
def test_trace_equals_hidden_states(cell, inputs):
    params = network.initial_params(cell, INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    h = network.hidden_states(cell, params, inputs)
    states, gates = network.trace(cell, params, inputs)
    assert h.shape == (2, TIME, HIDDEN_SIZE)
    np.testing.assert_allclose(states[0], h, atol=1e-6)
    assert {array.shape for array in (*states, *gates)} == {(2, TIME, HIDDEN_SIZE)}


def test_gates_and_states_satisfy_cell_equations(inputs):
    params = network.initial_params("lstm", INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    (h, c), (i, f, g, o) = network.trace("lstm", params, inputs)
    np.testing.assert_allclose(c[:, 1:], f[:, 1:] * c[:, :-1] + i[:, 1:] * g[:, 1:], atol=1e-6)
    np.testing.assert_allclose(h, o * np.tanh(c), atol=1e-6)

    params = network.initial_params("gru", INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    (h,), (r, z, n, recurrent_n) = network.trace("gru", params, inputs)
    projected = inputs @ params["input_kernel"] + params["bias"]
    projected_n = projected[..., 2 * HIDDEN_SIZE :]
    np.testing.assert_allclose(n, np.tanh(projected_n + r * recurrent_n), atol=1e-6)
    np.testing.assert_allclose(h[:, 1:], n[:, 1:] + z[:, 1:] * (h[:, :-1] - n[:, 1:]), atol=1e-6)


def test_perturbation_is_added_to_state_after_its_step(inputs):
    params = network.initial_params("lstm", INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    plain = network.trace("lstm", params, inputs)
    perturbations = network.zero_perturbations("lstm", params, inputs)
    perturbed = network.trace(
        "lstm", params, inputs, (perturbations[0], perturbations[1].at[:, 2].set(0.5))
    )
    h, c = (
        np.asarray(after - before)
        for after, before in zip(perturbed.states, plain.states, strict=True)
    )
    np.testing.assert_allclose(c[:, :2], 0, atol=1e-6)
    np.testing.assert_allclose(c[:, 2], 0.5, rtol=1e-6)
    np.testing.assert_allclose(h[:, :3], 0, atol=1e-6)
    assert (h[:, 3] != 0).all()


def test_stop_gate_gradients_keeps_values_and_stops_gradient(inputs):
    params = network.initial_params("rnn", INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    perturbations = network.zero_perturbations("rnn", params, inputs)

    def last(perturbations, stop_gate_gradients):
        states, _ = network.trace(
            "rnn", params, inputs, perturbations, stop_gate_gradients=stop_gate_gradients
        )
        return jnp.sum(states[0][:, -1])

    values, gradients = zip(
        *(jax.value_and_grad(last)(perturbations, stop) for stop in (False, True)), strict=True
    )
    assert values[0] == values[1]
    assert (gradients[0][0][:, :-1] != 0).all()
    np.testing.assert_array_equal(gradients[1][0][:, :-1], 0)


def test_initial_params_have_documented_distributions():
    params = network.initial_params("lstm", INPUTS, 64, OUTPUTS, 0)
    for gate in np.split(params["recurrent_kernel"], 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(64), atol=1e-5)
    np.testing.assert_array_equal(params["bias"], np.repeat([0, 1, 0, 0], 64))
    assert params["input_kernel"].std() == pytest.approx(INPUTS**-0.5, rel=0.1)
    again = network.initial_params("lstm", INPUTS, 64, OUTPUTS, 1)
    assert not np.allclose(params["recurrent_kernel"], again["recurrent_kernel"])


def test_chrono_init_spreads_time_scales_over_span():
    params = network.initial_params("lstm", INPUTS, 200, OUTPUTS, 0, span=100)
    input_bias, forget_bias, candidate_bias, output_bias = np.split(params["bias"], 4)
    times = np.exp(forget_bias)
    assert 1 <= times.min() < 2
    assert 96 < times.max() <= 99
    assert times.mean() == pytest.approx(50, rel=0.1)
    np.testing.assert_array_equal(input_bias, -forget_bias)
    assert not candidate_bias.any()
    assert not output_bias.any()
    gru = network.initial_params("gru", INPUTS, 8, OUTPUTS, 0, span=100)
    reset, update, candidate = np.split(gru["bias"], 3)
    assert (update > 0).all()
    assert not reset.any()
    assert not candidate.any()


def test_output_layer_applies_to_every_step():
    params = network.initial_params("rnn", INPUTS, HIDDEN_SIZE, OUTPUTS, 0)
    params["head_bias"] = np.float32([1, 2])
    h = np.float32(np.random.default_rng(0).standard_normal((TIME, 2, HIDDEN_SIZE)))
    got = network.output_layer(params, jnp.asarray(h))
    np.testing.assert_allclose(got, h @ params["head_kernel"] + [1, 2], rtol=1e-5)
