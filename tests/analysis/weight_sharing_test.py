"""Shared weights get the sum of their copies' gradients, and know nothing of the position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis import weight_sharing


@pytest.fixture(scope="module")
def gradients():
    return weight_sharing.gradient_study(0)


def test_gradients_of_the_copies_add_up_to_that_of_the_shared_weights(gradients):
    assert gradients["relative_difference"] < 1e-12
    assert gradients["sum"] == pytest.approx(float(gradients["shared"]), rel=1e-12)
    assert gradients["copies"].shape == (weight_sharing.TIME,)
    assert len(np.unique(gradients["copies"])) == weight_sharing.TIME


def test_sharing_divides_the_parameters_by_the_steps(gradients):
    hidden = weight_sharing.HIDDEN
    assert gradients["shared_parameters"] == hidden + hidden + hidden**2 + hidden + 1
    ratio = gradients["unshared_parameters"] / gradients["shared_parameters"]
    assert ratio == weight_sharing.TIME


def test_unrolled_weights_serve_their_own_step_alone():
    random = np.random.default_rng(0)
    time, hidden = 4, 3
    copies = {
        "input_kernel": random.standard_normal((time, 1, hidden)),
        "bias": random.standard_normal((time, hidden)),
        "recurrent_kernel": random.standard_normal((time, hidden, hidden)),
    }
    copies = {name: np.float32(array) for name, array in copies.items()}
    inputs = np.float32(random.standard_normal((2, time, 1)))
    h, expected = np.zeros((2, hidden)), []
    for step in range(time):
        a = inputs[:, step] @ copies["input_kernel"][step] + copies["bias"][step]
        h = np.tanh(a + h @ copies["recurrent_kernel"][step])
        expected.append(h)
    np.testing.assert_allclose(weight_sharing.unrolled(copies, inputs), expected, atol=1e-6)


def test_the_rule_is_a_symbol_times_the_one_before_times_the_positions_sign():
    signs = np.float32([1, -1, -1])
    symbols, targets = map(np.asarray, weight_sharing.draw(jax.random.key(0), jnp.asarray(signs)))
    assert set(np.unique(symbols)) == {-1, 1}
    for row, answer in zip(symbols, targets.T, strict=True):
        np.testing.assert_array_equal(answer, [row[0], -row[0] * row[1], -row[1] * row[2]])


def test_only_one_network_is_told_the_position():
    symbols = np.float32([[1, -1] * 8])
    plain = weight_sharing._inputs(symbols, "shared")
    told = np.asarray(weight_sharing._inputs(symbols, "shared, told the position"))
    np.testing.assert_array_equal(plain[..., 0], symbols)
    np.testing.assert_array_equal(told[..., 0], 4 * symbols)
    np.testing.assert_array_equal(told[0, :, 1:], 4 * np.eye(16))
