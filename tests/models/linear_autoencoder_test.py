"""Linear autoencoders with known solutions: PCA and the Gaussian likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder, AutoencoderConfig, loss
from jaxlabs.training.full_batch import build_full_batch_step
from jaxlabs.training.optimizers import lbfgs
from jaxlabs.training.state import create_state

SHAPE, PIXELS = (4, 3, 1), 12
pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

KEY = jax.random.key(3)


def linear(**settings):
    """An autoencoder with two latent units and no hidden layers."""
    settings = {"latent_dim": 2, "num_hidden_layers": 0, "likelihood": "gaussian"} | settings
    config = AutoencoderConfig(matmul_precision="highest", **settings)
    return Autoencoder(config, SHAPE, False)


def test_linear_autoencoder_is_pca():
    """Bourlard and Kamp 1988: the same subspace, the same error."""
    deviations = np.r_[3.0, 2.5, 2.0, np.full(PIXELS - 3, 0.5)]
    rows = np.random.default_rng(0).normal(size=(40, PIXELS)) * deviations + 0.3
    batch = {"images": rows.reshape(40, *SHAPE).astype(np.float32), "weights": np.ones(40)}
    batch["example_index"] = np.arange(40, dtype=np.int32)
    model = linear(objective="ae", latent_dim=3)
    state = create_state(model, model.init(KEY, jnp.zeros((1, PIXELS))), lbfgs())
    state = jax.tree.map(jnp.copy, state)  # no two leaves are the same buffer
    step = build_full_batch_step(loss)
    for _ in range(150):
        state, _ = step(state, batch, KEY)
    _, sizes, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    angles = scipy.linalg.subspace_angles(state.params["output"]["kernel"].T, axes[:3].T)
    assert np.degrees(angles.max()) < 0.1
    output = loss(model, state.variables(state.params), batch, KEY, train=False)
    error = float(output.metric_sums["squared_error"] / output.weight_sum)
    np.testing.assert_allclose(error, np.sum(sizes[3:] ** 2) / 40, rtol=1e-5)


def linear_gaussian(log_variance):
    """A linear model with the exact posterior, and images.

    Where the columns of W are orthogonal, the posterior of probabilistic PCA is diagonal.
    """
    scale = 0.5
    images = np.random.default_rng(1).integers(0, 256, (64, *SHAPE), dtype=np.uint8)
    batch = {"images": images, "example_index": np.arange(64, dtype=np.int32)}
    axes, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(PIXELS, 2)))
    w, b = axes * [1.5, 0.7], np.full(PIXELS, 0.4)
    variance = 1 / (1 + np.square([1.5, 0.7]) / scale**2)
    kernel = w * variance / scale**2
    layer = lambda kernel, bias: {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}  # noqa: E731
    params = {
        "z_mean": layer(kernel, -b @ kernel),
        "z_log_var": layer(np.zeros((PIXELS, 2)), np.log(variance) + log_variance),
        "output": layer(w.T, b),
    }
    x = images.reshape(64, -1) / 255
    covariance = w @ w.T + scale**2 * np.eye(PIXELS)
    return (
        linear(observation_std=scale),
        params,
        batch,
        scipy.stats.multivariate_normal(b, covariance).logpdf(x),
    )


@pytest.mark.parametrize("samples", [1, 60])
def test_bound_with_the_exact_posterior_equals_the_likelihood(samples):
    model, params, batch, exact = linear_gaussian(0.0)
    bound = autoencoder.iwae_bound(model, params, batch, KEY, samples=samples)
    np.testing.assert_allclose(bound, exact, rtol=2e-5)


def test_bound_increases_with_samples_towards_the_likelihood():
    """For 64 images, 60 samples are 4 chunks and 3,000 are 200."""
    model, params, batch, exact = linear_gaussian(0.8)
    means = [
        float(autoencoder.iwae_bound(model, params, batch, KEY, samples=samples).mean())
        for samples in (1, 60, 3000)
    ]
    assert means == sorted(means)
    assert means[0] < exact.mean() - 0.3
    np.testing.assert_allclose(means[-1], exact.mean(), atol=0.02)
