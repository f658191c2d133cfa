"""The estimate from a subset of images agrees with the bound of all images."""

import numpy as np
import pytest

from jaxlabs.data.batches import Examples
from jaxlabs.labs.autoencoder import vae_likelihood

RANDOM = np.random.default_rng(0)
LOOSE = RANDOM.normal(-90, 20, 400)
DIFFERENCE = RANDOM.normal(2, 0.5, 400)


@pytest.fixture(autouse=True)
def known_bounds(monkeypatch):
    """Bounds of image n: LOOSE[n] with 5 samples, greater by DIFFERENCE[n] with 50."""

    def bounds(model, params, examples, samples, seed):
        indices = examples.arrays["images"]
        return LOOSE[indices] + (DIFFERENCE[indices] if samples == 50 else 0)

    monkeypatch.setattr(vae_likelihood, "bounds", bounds)


def estimate(indices):
    examples = Examples({"images": np.arange(400)})
    return vae_likelihood.likelihood(None, None, examples, (5, 50), indices, seed=0)


def test_all_images_give_tighter_bound_without_error():
    metrics = estimate(np.arange(400))
    assert metrics["iwae_5"] == pytest.approx(-LOOSE.mean())
    assert metrics["iwae_50"] == pytest.approx(-(LOOSE + DIFFERENCE).mean())
    assert metrics["iwae_50_stderr"] == 0
    assert metrics["iwae_50_images"] == 400


def test_error_of_subset_estimate_agrees_with_standard_error():
    expected = -(LOOSE + DIFFERENCE).mean()
    estimates = [
        estimate(np.random.default_rng(seed).permutation(400)[:100]) for seed in range(200)
    ]
    errors = [metrics["iwae_50"] - expected for metrics in estimates]
    standard_error = np.mean([metrics["iwae_50_stderr"] for metrics in estimates])
    assert standard_error < 0.06  # of the bound itself it would be 1.7
    np.testing.assert_allclose(np.std(errors), standard_error, rtol=0.15)


def test_no_images_give_no_tighter_bound():
    assert estimate(np.arange(0)).keys() == {"iwae_5"}
