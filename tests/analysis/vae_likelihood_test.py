"""Holds the estimate from some pictures to what all of them would have given."""

import numpy as np
import pytest

from jaxlabs.analysis import vae_likelihood
from jaxlabs.data.batches import Examples

RANDOM = np.random.default_rng(0)
FEW = RANDOM.normal(-90, 20, 400)
GAIN = RANDOM.normal(2, 0.5, 400)


@pytest.fixture(autouse=True)
def known_bounds(monkeypatch):
    """Bounds that are known: of picture n with 5 samples FEW[n], with 50 samples more by GAIN."""

    def bounds(model, params, examples, samples, seed):
        places = examples.arrays["images"]
        return FEW[places] + (GAIN[places] if samples == 50 else 0)

    monkeypatch.setattr(room, "bounds", bounds)


def estimate(places):
    examples = Examples({"images": np.arange(400)})
    return vae_likelihood.likelihood(None, None, examples, (5, 50), places, seed=0)


def test_all_pictures_give_the_tighter_bound_itself_without_error():
    figures = estimate(np.arange(400))
    assert figures["bound_5"] == pytest.approx(-FEW.mean())
    assert figures["bound_50"] == pytest.approx(-(FEW + GAIN).mean())
    assert figures["bound_50_error"] == 0
    assert figures["bound_50_images"] == 400


def test_some_pictures_miss_it_by_about_the_error_that_is_told():
    wanted = -(FEW + GAIN).mean()
    draws = [estimate(np.random.default_rng(seed).permutation(400)[:100]) for seed in range(200)]
    misses = [figures["bound_50"] - wanted for figures in draws]
    told = np.mean([figures["bound_50_error"] for figures in draws])
    assert told < 0.06  # of the bound itself it would be 1.7
    np.testing.assert_allclose(np.std(misses), told, rtol=0.15)


def test_no_pictures_give_no_tighter_bound():
    assert estimate(np.arange(0)).keys() == {"bound_5"}
