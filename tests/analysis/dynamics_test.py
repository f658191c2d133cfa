"""Gradients through time are those of the network; at rest they are powers of the radius."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis import functional_rnn, dynamics

HIDDEN, STEPS, RADII = 6, 40, (0.5, 1.0, 1.5)


@pytest.fixture(scope="module")
def sweep():
    return dynamics.spectral_sweep(HIDDEN, STEPS, 0, RADII)


def test_at_rest_an_orthogonal_matrix_gives_exactly_the_powers_of_its_radius(sweep):
    expected = np.array(RADII)[:, None] ** np.arange(STEPS + 1)[None]
    np.testing.assert_allclose(sweep["orthogonal_rest"], expected, rtol=1e-12)
    np.testing.assert_allclose(sweep["orthogonal_rest_factor"], RADII)


def test_at_rest_a_gaussian_matrix_gives_the_norm_of_its_powers(sweep):
    random = np.random.default_rng(0)
    matrix = random.standard_normal((HIDDEN, HIDDEN))
    matrix /= np.abs(np.linalg.eigvals(matrix)).max()
    norms = sweep["gaussian_rest"][1]
    norm = np.linalg.norm(np.linalg.matrix_power(matrix, STEPS), 2)
    assert norms[0] == pytest.approx(1)
    assert norms[-1] <= norm * (1 + 1e-9)
    # LogitScale the matrix scales every step, whatever the direction.
    np.testing.assert_allclose(
        sweep["gaussian_rest"][2], norms * 1.5 ** np.arange(STEPS + 1), rtol=1e-10
    )
    assert not np.allclose(norms, 1, atol=0.05)  # a matrix that is not normal


def test_tanh_only_takes_away(sweep):
    prediction = np.array(RADII)[:, None] ** np.arange(STEPS + 1)[None]
    assert (sweep["orthogonal_driven"][:, 1:] < prediction[:, 1:]).all()
    factors = sweep["orthogonal_driven_factor"]
    assert (np.diff(factors) > 0).all()


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_state_gradients_are_those_of_differences(cell):
    random = np.random.default_rng(1)
    params = jax.tree.map(np.float64, functional_rnn.initial_params(cell, 2, 3, 1, 0))
    inputs = random.standard_normal((2, 5, 2))
    with jax.enable_x64(True):
        inputs = jnp.asarray(inputs)
        loss = dynamics.answer_loss(params, jnp.zeros(2))
        (got,) = dynamics.state_gradients(cell, params, inputs, loss)
        perturbations = functional_rnn.zero_perturbations(cell, inputs, 3)[0]

        @jax.jit
        def nudged(size):
            there = perturbations.at[1, 0, 2].set(size)
            return loss(functional_rnn.trace(cell, params, inputs, (there,)).states[0][-1])

        slope = (nudged(1e-5) - nudged(-1e-5)) / 2e-5
    assert got.shape == (5, 2, 3)
    assert float(got[1, 0, 2]) == pytest.approx(float(slope), rel=1e-7)


def test_shares_through_time_end_at_one_and_have_an_lstms_cell():
    random = np.random.default_rng(1)
    inputs, targets = random.standard_normal((6, 9, 2)), random.standard_normal(6)
    params = functional_rnn.initial_params("lstm", 2, 3, 1, 0)
    found = dynamics.through_time({"a": ("lstm", params)}, inputs, targets)
    assert set(found) == {"a_h", "a_c"}
    assert found["a_h"].shape == (9, 3)
    np.testing.assert_allclose(found["a_h"][-1], 1)
    assert (np.diff(found["a_c"], axis=1) >= 0).all()
    np.testing.assert_array_equal(found["a_c"][-1], 0)  # the answer reads h, made already
