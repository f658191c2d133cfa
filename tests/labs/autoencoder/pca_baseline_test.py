"""PCA baseline of a linear autoencoder with the principal components as weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.labs.autoencoder.pca_baseline import compare_with_pca, principal_components
from jaxlabs.models.autoencoder import Autoencoder, AutoencoderConfig

RANDOM = np.random.default_rng(0)
TRAIN, TEST = RANDOM.integers(0, 256, (2, 30, 3, 2, 1), dtype=np.uint8)
ROWS = TRAIN.reshape(30, 6) / 255


def test_results_are_singular_vectors_of_centered_rows():
    _, _, axes = np.linalg.svd(ROWS - ROWS.mean(axis=0), full_matrices=False)
    result = principal_components(ROWS, 4)
    np.testing.assert_allclose(np.abs(np.sum(result * axes[:4], axis=1)), 1, rtol=1e-9)


@pytest.mark.parametrize("latent", [1, 2, 9])
def test_pca_error_is_residual_and_angle_of_pca_weights_is_zero(latent):
    """With more units than pixels the error is zero."""
    config = AutoencoderConfig(
        objective="ae", likelihood="gaussian", num_hidden_layers=0, latent_dim=latent
    )
    model = Autoencoder(config, (3, 2, 1))
    kernel = np.zeros((latent, 6))
    components = principal_components(ROWS, latent)
    kernel[: len(components)] = components
    metrics = compare_with_pca(model, {"output": {"kernel": jnp.float32(kernel)}}, TRAIN, TEST)
    test = TEST.reshape(30, 6) / 255 - ROWS.mean(axis=0)
    residual = np.square(test).sum() - np.square(test @ components.T).sum()
    np.testing.assert_allclose(metrics["pca_squared_error"], residual / 30, atol=1e-9)
    assert metrics["pca_angle"] < 1e-2
    rotated = {"output": {"kernel": jnp.float32(np.roll(kernel, 1, axis=1))}}
    if latent < 6:
        assert compare_with_pca(model, rotated, TRAIN, TEST)["pca_angle"] > 10
