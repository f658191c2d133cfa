"""The gradient along an LSTM's cell is the product of its forget gates; the rest goes through h."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxlabs.analysis import functional_rnn, lstm_gradient_paths, dynamics

TIME, HIDDEN = 7, 4


@pytest.fixture(scope="module")
def case():
    """Parameters, inputs and targets in float64, with biases that are not all alike."""
    random = np.random.default_rng(0)
    params = functional_rnn.initial_params("lstm", 2, HIDDEN, 1, 0)
    params = {name: np.float64(array) + 0.1 * random.standard_normal(array.shape)
              for name, array in params.items()}  # fmt: skip
    return params, random.standard_normal((2, TIME, 2)), np.array([1.0, -1.0])


@pytest.fixture(scope="module")
def paths(case):
    params, inputs, targets = case
    with jax.enable_x64(True):
        measure = jax.jit(
            lambda params, hold: lstm_gradient_paths.cell_paths(
                params,
                jnp.asarray(inputs),
                dynamics.answer_loss(params, targets),
                stop_gate_gradients=hold,
            ),
            static_argnums=1,
        )
        return {hold: jax.tree.map(np.asarray, measure(params, hold)) for hold in (False, True)}


def loss_by_hand(params, inputs, targets, step=None, nudge=0.0):
    """The squared error of an LSTM in plain numpy, with a nudge added to c while it is made."""
    h = c = np.zeros((len(inputs), HIDDEN))
    for time in range(TIME):
        a = inputs[:, time] @ params["input_kernel"] + params["bias"]
        i, f, g, o = np.split(a + h @ params["recurrent_kernel"], 4, axis=1)
        c = expit(f) * c + expit(i) * np.tanh(g) + (nudge if time == step else 0.0)
        h = expit(o) * np.tanh(c)
    answers = (h @ params["head_kernel"] + params["head_bias"])[:, 0]
    return np.square(answers - targets).sum()


@pytest.mark.parametrize("step", [0, TIME - 2, TIME - 1])
def test_the_total_is_what_differences_of_the_whole_network_say(case, paths, step):
    for row, unit in ((0, 1), (1, 3)):
        nudge = np.zeros((2, HIDDEN))
        nudge[row, unit] = 1e-5
        ahead, behind = (loss_by_hand(*case, step, sign * nudge) for sign in (1, -1))
        assert paths[False].total[step, row, unit] == pytest.approx(
            (ahead - behind) / 2e-5, rel=1e-6
        )


def test_along_the_cell_the_gradient_is_the_product_of_forget_gates(paths):
    np.testing.assert_allclose(paths[True].total, paths[True].product, rtol=1e-12)
    np.testing.assert_allclose(paths[False].product, paths[True].product, rtol=1e-12)
    assert np.abs(paths[False].total / paths[True].total - 1)[0].max() > 0.01


def test_one_step_back_is_the_forget_gate_and_what_goes_through_h(case, paths):
    params, inputs, targets = case
    with jax.enable_x64(True):
        (_, c), (_, forget, _, output) = functional_rnn.trace("lstm", params, jnp.asarray(inputs))
        loss = dynamics.answer_loss(params, targets)
        by_h, _ = dynamics.state_gradients("lstm", params, jnp.asarray(inputs), loss)
        c, forget, output, by_h = map(np.asarray, (c, forget, output, by_h))
    total = paths[False].total
    through_h = by_h * output * (1 - np.tanh(c) ** 2)
    np.testing.assert_allclose(
        total[:-1], forget[1:] * total[1:] + through_h[:-1], rtol=1e-12, atol=1e-15
    )


def test_study_gives_shares_of_the_last_gradient(case, paths):
    params, inputs, targets = case
    found = lstm_gradient_paths.paths_study({"one": params}, inputs, targets)
    norms = np.linalg.norm(paths[False].total, axis=-1)
    np.testing.assert_allclose(found["total"][0], np.median(norms / norms[-1:], axis=1), rtol=1e-9)
    others = np.linalg.norm(paths[False].total - paths[False].product, axis=-1)
    expected = np.median(others / norms[-1:], axis=1)
    np.testing.assert_allclose(found["others"][0], expected, rtol=1e-9)
    assert found["held_error"][0] < 1e-12
    assert 0 < found["forget"][0] < 1


def test_gates_are_sorted_by_what_they_keep():
    inputs = np.zeros((1, TIME, 2), np.float32)
    inputs[0, [1, 5], 1] = 1
    networks = {
        cell: (cell, functional_rnn.initial_params(cell, 2, HIDDEN, 1, 0, span=9))
        for cell in ("lstm", "gru")
    }
    found = lstm_gradient_paths.gate_pictures(networks, inputs)
    np.testing.assert_array_equal(found["marks"], [1, 5])
    assert {name for name in found if "_" in name} == {
        *("lstm_input", "lstm_forget", "lstm_output", "gru_reset", "gru_update")
    }
    for keeping in (found["lstm_forget"], found["gru_update"]):
        assert keeping.shape == (HIDDEN, TIME)
        assert (np.diff(keeping.mean(axis=1)) <= 0).all()
    # At the first step the state says nothing: the gates are those of bias and input.
    gate = expit(networks["lstm"][1]["bias"][:HIDDEN])
    np.testing.assert_allclose(np.sort(found["lstm_input"][:, 0]), np.sort(gate), rtol=1e-5)
