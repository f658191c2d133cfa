"""Terms of the bound against scipy, and the bound for a model with known likelihood."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxlabs.losses.elbo import (
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    importance_weighted_bound,
)
from jaxlabs.training import gradient_check

RANDOM = np.random.default_rng(0)
MEAN, LOG_VARIANCE = RANDOM.normal(size=(2, 4, 3))
LOGITS = RANDOM.normal(size=(4, 5)) * 3
PIXELS = RANDOM.uniform(size=(4, 5))


def test_kl_equals_its_integral():
    """By Simpson's rule over z, for each dimension."""
    found = gaussian_kl(jnp.float32(MEAN), jnp.float32(LOG_VARIANCE))
    chex.assert_shape(found, (4, 3))
    deviation = np.exp(LOG_VARIANCE / 2)
    z = MEAN + deviation * np.linspace(-9, 9, 2001)[:, None, None]
    q = scipy.stats.norm(MEAN, deviation)
    integrand = q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z))
    expected = scipy.integrate.simpson(integrand, axis=0, dx=18 / 2000) * deviation
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_kl_of_the_prior_is_zero_with_zero_gradient():
    zeros = jnp.zeros(3)
    np.testing.assert_array_equal(gaussian_kl(zeros, zeros), 0)
    grads = jax.grad(lambda m, v: gaussian_kl(m, v).sum(), (0, 1))(zeros, zeros)
    np.testing.assert_array_equal(grads, 0)


def test_bernoulli_equals_scipy_for_binary_pixels():
    x = (PIXELS > 0.5).astype(np.float32)
    found = bernoulli_log_likelihood(jnp.float32(LOGITS), x)
    chex.assert_shape(found, (4,))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(LOGITS)).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bernoulli_of_a_gray_pixel_is_the_expectation_over_binary_pixels():
    logits, x = jnp.float32([[1.3]]), jnp.float32([[0.25]])
    binary = [bernoulli_log_likelihood(logits, jnp.full_like(x, value)) for value in (1, 0)]
    found = bernoulli_log_likelihood(logits, x)
    np.testing.assert_allclose(found, 0.25 * binary[0] + 0.75 * binary[1], rtol=1e-6)


def test_value_and_gradient_are_finite_at_huge_logits():
    x = jnp.float32([[1, 0, 1, 0]])
    logits = jnp.float32([[1e4, -1e4, -1e4, 1e4]])
    value, grad = jax.value_and_grad(lambda y: bernoulli_log_likelihood(y, x)[0])(logits)
    np.testing.assert_allclose(value, -2e4)
    np.testing.assert_allclose(grad, [[0, 0, 1, -1]], atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, np.array([0.5, 1, 2, 1, 3.0])], ids=["one", "each"])
def test_gaussian_equals_scipy(scale):
    log_scale = np.log(scale)
    log_scale = jnp.float32(log_scale if np.ndim(scale) == 0 else np.tile(log_scale, (4, 1)))
    found = gaussian_log_likelihood(jnp.float32(LOGITS), jnp.float32(PIXELS), log_scale)
    expected = scipy.stats.norm.logpdf(PIXELS, LOGITS, scale).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bound_is_the_log_mean_weight_without_overflow():
    log_weights = RANDOM.normal(size=(6, 4))
    expected = np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(importance_weighted_bound(log_weights), expected, rtol=1e-5)
    offset = importance_weighted_bound(jnp.float32(log_weights - 2000))
    np.testing.assert_allclose(offset, expected - 2000, rtol=1e-6)
    one = importance_weighted_bound(jnp.float32(log_weights[:1]))
    np.testing.assert_allclose(one, log_weights[0], rtol=1e-6)


def test_gradients_equal_finite_differences():
    def total(params, x):
        kl = gaussian_kl(params["mean"], params["log_variance"])
        bernoulli = bernoulli_log_likelihood(params["logits"], x)
        gaussian = gaussian_log_likelihood(params["logits"], x, params["log_scale"])
        weights = jnp.stack([bernoulli, -4 * kl.sum(axis=-1)])
        return importance_weighted_bound(weights).sum() + gaussian.sum()

    params = {"mean": MEAN, "log_variance": LOG_VARIANCE, "logits": LOGITS}
    report = gradient_check.check(total, params | {"log_scale": np.array(-0.3)}, PIXELS)
    assert report.worst.relative_difference < 1e-8, str(report)


# A linear-Gaussian model, probabilistic PCA (Tipping and Bishop 1999): x = W z + b + scale * noise.

W = np.array([[1.0, 0.4], [-0.3, 0.8], [0.5, 0.5]])
B, SCALE = np.array([0.2, -0.1, 0.4]), 0.6
X = np.array([[1.0, -0.5, 0.3], [0.0, 0.7, 2.0]])
POSTERIOR_COVARIANCE = np.linalg.inv(np.eye(2) + W.T @ W / SCALE**2)
POSTERIOR_MEAN = (X - B) @ W @ POSTERIOR_COVARIANCE / SCALE**2
LOG_P = scipy.stats.multivariate_normal(B, W @ W.T + SCALE**2 * np.eye(3)).logpdf(X)
Q_MEAN, Q_LOG_VARIANCE = (
    POSTERIOR_MEAN + np.array([[0.3, -0.2]]),
    np.array([[-0.5, 0.1], [-1.0, -0.7]]),
)


def kl_from_posterior(mean, variance):
    """KL of the diagonal q from the exact posterior with full covariance."""
    precision = np.linalg.inv(POSTERIOR_COVARIANCE)
    difference = mean - POSTERIOR_MEAN
    trace = np.einsum("ii,ni->n", precision, variance)
    squares = np.einsum("ni,ij,nj->n", difference, precision, difference)
    logs = np.linalg.slogdet(POSTERIOR_COVARIANCE)[1] - np.log(variance).sum(axis=1)
    return (trace + squares - 2 + logs) / 2


def log_likelihood(z):
    """Returns log p(x|z) for codes z `[..., 2, 2]`, by the code under test."""
    x = jnp.broadcast_to(jnp.asarray(X), (*z.shape[:-1], 3))
    mean = jnp.asarray(z @ W.T) + jnp.asarray(B).reshape((1,) * (z.ndim - 1) + (3,))
    return gaussian_log_likelihood(mean, x, jnp.log(SCALE))


def test_gap_of_the_bound_is_the_kl_from_the_posterior():
    """Checks log p(x) = E_q[log p(x, z) / q(z)] + KL(q || p(z|x)), with q's mean by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)  # exact: log p(x|z) is quadratic in z
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 1, 2)
    weights = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    with jax.enable_x64(True):
        z = Q_MEAN[None] + np.exp(Q_LOG_VARIANCE / 2)[None] * grid
        expected = weights @ np.asarray(log_likelihood(z))
        bound = expected - np.asarray(gaussian_kl(Q_MEAN, Q_LOG_VARIANCE)).sum(axis=-1)
    gap = kl_from_posterior(Q_MEAN, np.exp(Q_LOG_VARIANCE))
    assert gap.min() > 0.05
    np.testing.assert_allclose(bound + gap, LOG_P, rtol=1e-12)


def test_importance_weighted_bound_approaches_the_exact_likelihood():
    samples = np.array([1, 4, 16, 1024])
    repeats, max_samples = 400, samples[-1]
    noise = np.random.default_rng(1).normal(size=(max_samples, repeats, 2, 2))
    z = Q_MEAN + np.exp(Q_LOG_VARIANCE / 2) * noise
    prior = (np.square(noise) - np.square(z) + Q_LOG_VARIANCE).sum(axis=-1) / 2
    log_weights = np.asarray(log_likelihood(z)) + prior
    means = [np.asarray(importance_weighted_bound(log_weights[:k])).mean(axis=0) for k in samples]
    assert (np.diff(means, axis=0) > 0).all()
    assert (np.array(means[:2]) < LOG_P).all()
    np.testing.assert_allclose(means[-1], LOG_P, atol=0.005)
