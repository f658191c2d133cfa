"""The KL penalty against scipy, and the k-sparse activation against a sort."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxlabs.losses.sparsity import k_sparse, kl_sparsity
from jaxlabs.training import gradient_check


@pytest.mark.parametrize("target", [0.01, 0.5])
def test_penalty_is_the_kl_divergence_of_bernoullis(target):
    means = np.array([0.001, 0.01, 0.3, 0.99], np.float32)
    expected = scipy.special.rel_entr(target, means) + scipy.special.rel_entr(1 - target, 1 - means)
    penalty = kl_sparsity(jnp.asarray(means), target)
    chex.assert_shape(penalty, (4,))
    np.testing.assert_allclose(penalty, expected, rtol=1e-4, atol=1e-6)


def test_penalty_is_zero_at_the_target_and_finite_at_0_and_1():
    value, grad = jax.vmap(jax.value_and_grad(lambda mean: kl_sparsity(mean, 0.05)))(
        jnp.array([0.05, 0.0, 1.0])
    )
    np.testing.assert_allclose([value[0], grad[0]], 0, atol=1e-6)
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()
    assert value[1] > 1
    assert value[2] > 10


def test_penalty_gradient_equals_finite_differences():
    report = gradient_check.check(
        lambda params: kl_sparsity(jax.nn.sigmoid(params["x"]), 0.01).sum(),
        {"x": np.linspace(-3, 2, 7)},
    )
    assert report.worst.relative_difference < 1e-8


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_largest_units_of_each_row_are_kept(count):
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    expected = np.zeros_like(x)
    for row, indices in enumerate(np.argsort(-x, axis=1)[:, :count]):
        expected[row, indices] = x[row, indices]
    np.testing.assert_array_equal(k_sparse(jnp.asarray(x), count), expected)


def test_units_that_tie_with_the_smallest_kept_one_are_kept():
    x = jnp.array([[1.0, 2.0, 1.0, 0.0], [3.0, 3.0, 3.0, -1.0]])
    np.testing.assert_array_equal(k_sparse(x, 2), [[1, 2, 1, 0], [3, 3, 3, 0]])


def test_k_sparse_gradient_equals_finite_differences():
    report = gradient_check.check(
        lambda params: (k_sparse(params["x"], 3) ** 2).sum(),
        {"x": np.random.default_rng(0).normal(size=(4, 6))},
    )
    assert report.worst.relative_difference < 1e-8
