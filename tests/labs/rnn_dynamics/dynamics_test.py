"""Gradients through time equal finite differences; without input they are powers of the radius."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics import dynamics, network

HIDDEN_SIZE, STEPS, RADII = 6, 40, (0.5, 1.0, 1.5)


@pytest.fixture(scope="module")
def sweep():
    return dynamics.spectral_sweep(HIDDEN_SIZE, STEPS, 0, RADII)


def test_orthogonal_matrix_without_input_gives_powers_of_radius(sweep):
    expected = np.array(RADII)[:, None] ** np.arange(STEPS + 1)[None]
    np.testing.assert_allclose(sweep["orthogonal_rest"], expected, rtol=1e-12)
    np.testing.assert_allclose(sweep["orthogonal_rest_factor"], RADII)


def test_gaussian_matrix_without_input_gives_norm_of_its_powers(sweep):
    random = np.random.default_rng(0)
    matrix = random.standard_normal((HIDDEN_SIZE, HIDDEN_SIZE))
    matrix /= np.abs(np.linalg.eigvals(matrix)).max()
    norms = sweep["gaussian_rest"][1]
    norm = np.linalg.norm(np.linalg.matrix_power(matrix, STEPS), 2)
    assert norms[0] == pytest.approx(1)
    assert norms[-1] <= norm * (1 + 1e-9)
    # Scaling the matrix scales every step, whatever the direction.
    np.testing.assert_allclose(
        sweep["gaussian_rest"][2], norms * 1.5 ** np.arange(STEPS + 1), rtol=1e-10
    )
    assert not np.allclose(norms, 1, atol=0.05)  # a matrix that is not normal


def test_tanh_reduces_gradient(sweep):
    prediction = np.array(RADII)[:, None] ** np.arange(STEPS + 1)[None]
    assert (sweep["orthogonal_driven"][:, 1:] < prediction[:, 1:]).all()
    factors = sweep["orthogonal_driven_factor"]
    assert (np.diff(factors) > 0).all()


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_state_gradients_equal_finite_differences(cell):
    random = np.random.default_rng(1)
    params = jax.tree.map(np.float64, network.initial_params(cell, 2, 3, 1, 0))
    inputs = random.standard_normal((2, 5, 2))
    with jax.enable_x64(True):
        inputs = jnp.asarray(inputs)
        loss = dynamics.final_output_loss(params, jnp.zeros(2))
        (got,) = dynamics.state_gradients(cell, params, inputs, loss)
        perturbations = network.zero_perturbations(cell, params, inputs)[0]

        @jax.jit
        def perturbed_loss(size):
            perturbation = perturbations.at[0, 1, 2].set(size)
            states, _ = network.trace(cell, params, inputs, (perturbation,))
            return loss(states[0][:, -1])

        difference = (perturbed_loss(1e-5) - perturbed_loss(-1e-5)) / 2e-5
    assert got.shape == (2, 5, 3)
    assert float(got[0, 1, 2]) == pytest.approx(float(difference), rel=1e-7)


def test_relative_gradients_end_at_one_and_include_lstm_cell_state():
    random = np.random.default_rng(1)
    inputs, targets = random.standard_normal((6, 9, 2)), random.standard_normal(6)
    params = network.initial_params("lstm", 2, 3, 1, 0)
    result = dynamics.through_time({"a": ("lstm", params)}, inputs, targets)
    assert set(result) == {"a_h", "a_c"}
    assert result["a_h"].shape == (9, 3)
    np.testing.assert_allclose(result["a_h"][-1], 1)
    assert (np.diff(result["a_c"], axis=1) >= 0).all()
    np.testing.assert_array_equal(result["a_c"][-1], 0)  # the output depends on h only
