"""Holds the comparison with principal components to a network that is one."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis.pca_baseline import against_pca, principal_components
from jaxlabs.models.autoencoder import Autoencoder, AutoencoderConfig

RANDOM = np.random.default_rng(0)
TRAIN, TEST = RANDOM.integers(0, 256, (2, 30, 3, 2, 1), dtype=np.uint8)
ROWS = TRAIN.reshape(30, 6) / 255


def test_components_are_the_singular_vectors_of_the_centered_rows():
    _, _, axes = np.linalg.svd(ROWS - ROWS.mean(axis=0), full_matrices=False)
    found = principal_components(ROWS, 4)
    np.testing.assert_allclose(np.abs(np.sum(found * axes[:4], axis=1)), 1, rtol=1e-9)


@pytest.mark.parametrize("latent", [1, 2, 9])
def test_components_lose_least_and_their_own_network_stands_at_no_angle(latent):
    """More units than pixels lose nothing."""
    config = AutoencoderConfig(
        objective="ae", likelihood="gaussian", num_hidden_layers=0, latent_dim=latent
    )
    model = Autoencoder(config, (3, 2, 1))
    kernel = np.zeros((latent, 6))
    own = principal_components(ROWS, latent)
    kernel[: len(own)] = own
    figures = against_pca(model, {"output": {"kernel": jnp.float32(kernel)}}, TRAIN, TEST)
    test = TEST.reshape(30, 6) / 255 - ROWS.mean(axis=0)
    lost = np.square(test).sum() - np.square(test @ own.T).sum()
    np.testing.assert_allclose(figures["pca_squared_error"], lost / 30, atol=1e-9)
    assert figures["pca_angle"] < 1e-2
    turned = {"output": {"kernel": jnp.float32(np.roll(kernel, 1, axis=1))}}
    if latent < 6:
        assert against_pca(model, turned, TRAIN, TEST)["pca_angle"] > 10
