"""Weight sharing: gradient is the sum over copies; only one network gets the position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.labs.rnn_dynamics import weight_sharing


@pytest.fixture(scope="module")
def gradients():
    return weight_sharing.gradient_study(0)


def test_shared_gradient_is_sum_over_copies(gradients):
    assert gradients["relative_difference"] < 1e-12
    assert gradients["sum"] == pytest.approx(float(gradients["shared"]), rel=1e-12)
    assert gradients["copies"].shape == (weight_sharing.TIME,)
    assert len(np.unique(gradients["copies"])) == weight_sharing.TIME


def test_sharing_divides_parameter_count_by_steps(gradients):
    hidden = weight_sharing.HIDDEN_SIZE
    assert gradients["shared_parameters"] == hidden + hidden + hidden**2 + hidden + 1
    ratio = gradients["unshared_parameters"] / gradients["shared_parameters"]
    assert ratio == weight_sharing.TIME


def test_unrolled_weights_apply_to_their_own_step():
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


def test_target_is_symbol_times_previous_symbol_times_sign_of_position():
    signs = np.float32([1, -1, -1])
    symbols, targets = map(
        np.asarray, weight_sharing.sample_batch(jax.random.key(0), jnp.asarray(signs))
    )
    assert set(np.unique(symbols)) == {-1, 1}
    for row, target in zip(symbols, targets.T, strict=True):
        np.testing.assert_array_equal(target, [row[0], -row[0] * row[1], -row[1] * row[2]])


def test_only_one_network_gets_position():
    symbols = np.float32([[1, -1] * 8])
    plain = weight_sharing._inputs(symbols, "shared")
    with_position = np.asarray(weight_sharing._inputs(symbols, "shared, position input"))
    np.testing.assert_array_equal(plain[..., 0], symbols)
    np.testing.assert_array_equal(with_position[..., 0], 4 * symbols)
    np.testing.assert_array_equal(with_position[0, :, 1:], 4 * np.eye(16))
