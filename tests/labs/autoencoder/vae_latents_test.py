"""Latent space metrics equal plain numpy."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.labs.autoencoder import vae_latents
from jaxlabs.labs.autoencoder.lab import LAB

RANDOM = np.random.default_rng(0)


def test_distance_is_to_nearest_reference_image():
    images = RANDOM.uniform(size=(4, 3, 2, 1))
    reference = RANDOM.integers(0, 256, (9, 3, 2, 1), dtype=np.uint8)
    expected = [min(np.sum((image - other / 255) ** 2) for other in reference) for image in images]
    result = vae_latents.distance_to_nearest(np.float32(images), reference)
    np.testing.assert_allclose(result, np.mean(expected), rtol=1e-4)
    assert abs(vae_latents.distance_to_nearest(np.float32(reference) / 255, reference)) < 1e-4


def test_codes_of_at_most_two_units_are_unchanged():
    codes = RANDOM.normal(size=(20, 2))
    np.testing.assert_array_equal(vae_latents._project_to_plane(codes)[0], codes)
    line, fraction = vae_latents._project_to_plane(codes[:, :1])
    np.testing.assert_array_equal(line, np.c_[codes[:, 0], np.zeros(20)])
    assert fraction == 1


def test_plane_has_largest_variance():
    codes = RANDOM.normal(size=(500, 4)) * [0.1, 3, 0.2, 2] + 7
    plane, fraction = vae_latents._project_to_plane(codes)
    np.testing.assert_allclose(np.abs(np.corrcoef(plane.T, codes.T)[0, 3]), 1, atol=0.01)
    np.testing.assert_allclose(fraction, 13 / 13.05, atol=0.002)


def test_interpolation_pairs_have_different_classes_or_are_first_images():
    labels = np.array([3, 3, 0, 5, 0, 1, 3, 9])
    assert sorted(vae_latents._one_per_class(labels)) == [0, 2, 3, 5]
    np.testing.assert_array_equal(vae_latents._one_per_class(np.zeros(5, int)), np.arange(4))


def comparison(**settings):
    """A model that is trained for the comparison."""
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "latent_dim": 2, "batch_size": 20}
    fixed = {"dataset": "rendered_digits", "train_images": 40, "platform": "cpu"}
    config = LAB.config_class.from_flat(fixed | sizes | settings)
    data = LAB.load_data(config)
    return vae_latents.train_fully(LAB.build_task(config, data.data_spec), data, config)


def test_comparison_does_not_start_from_init_from():
    _, params = comparison(steps=1, init_from="there/is/none.safetensors")
    assert params


def test_comparison_that_diverges_is_an_error():
    with pytest.raises(
        UserError, match="comparison_latent_dim: the vae of 2 latent dimensions diverged; none"
    ):
        comparison(steps=12, learning_rate=1e38, lr_schedule="constant", warmup_steps=0)
