"""Gabor fits recover known parameters and explain little of noise."""

import numpy as np
import pytest

from jaxlabs.labs.sparse_autoencoder import gabor
from jaxlabs.labs.sparse_autoencoder.gabor import fit_gabors

SIZE = 8


def stripes(orientation, frequency, size=SIZE, spread=2.5):
    """A wave whose stripes lie at `orientation` degrees, computed independently of the module."""
    down, right = np.mgrid[:size, :size] - (size - 1) / 2
    up = -down
    angle = np.radians(orientation)
    off_line = right * np.sin(angle) - up * np.cos(angle)  # distance from the stripe's line
    envelope = np.exp(-(right**2 + up**2) / (2 * spread**2))
    return 0.3 + 2 * envelope * np.sin(2 * np.pi * frequency * off_line)


@pytest.mark.parametrize("orientation", [0, 30, 90, 135])
@pytest.mark.parametrize("frequency", [0.15, 0.3])
def test_fit_recovers_orientation_and_frequency(orientation, frequency):
    fits = fit_gabors(stripes(orientation, frequency)[None])
    assert fits.explained[0] > 0.999
    difference = abs(fits.orientation[0] - orientation)
    assert min(difference, 180 - difference) < 1
    np.testing.assert_allclose(fits.frequency[0], frequency, atol=0.01)
    np.testing.assert_allclose(fits.fitted[0], stripes(orientation, frequency) - 0.3, atol=0.1)


def test_start_has_the_phase_of_a_wave_beside_the_center():
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    envelope = np.exp(-((columns - 1.5) ** 2 + (rows + 1) ** 2) / 8)
    target = envelope * np.cos(2 * np.pi * 0.25 * (columns - 1.5))
    start = gabor._starts(target, rows, columns)[0]
    assert abs(start[7]) < 0.4  # radians; 2.4 relative to the patch's center


def test_noise_has_less_variance_explained_than_edge():
    noise = np.random.default_rng(0).normal(size=(6, SIZE, SIZE))
    edge = stripes(45, 0.2) + 0.3 * noise[0]
    assert fit_gabors(noise).explained.mean() < 0.65
    assert fit_gabors(edge[None]).explained[0] > 0.85


def test_constant_filter_has_no_variance_explained():
    fits = fit_gabors(np.ones((2, SIZE, SIZE)))
    np.testing.assert_array_equal(fits.explained, 0)
    np.testing.assert_array_equal(fits.fitted, 0)
