"""Whitening is the filter of Olshausen and Field (1997)."""

import numpy as np
import pytest

from jaxlabs.data import whitening


def wave(side, across, down):
    """A wave with the given cycles per image in both directions."""
    y, x = np.indices((side, side)) / side
    return np.cos(2 * np.pi * (across * x + down * y))


def one_over_f(count, side, seed=0):
    """Gaussian noise with amplitude 1/f."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    frequency[0, 0] = 1
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    return np.fft.ifft2(np.fft.fft2(noise) / frequency[None]).real


def test_gain_of_waves_is_that_of_the_formula():
    # Three waves at once; each is multiplied by |f| exp(-(f/f0)^4), up to a common factor.
    side, waves = 64, [(3, 0), (0, 12), (15, 20)]
    whitened = whitening.whiten(sum(wave(side, *one) for one in waves)[None])[0]
    frequency = np.array([3, 12, 25])  # cycles per image
    gain = frequency * np.exp(-((frequency / (0.4 * side)) ** 4))
    found = [2 * np.mean(whitened * wave(side, *one)) for one in waves]
    np.testing.assert_allclose(found / np.linalg.norm(found), gain / np.linalg.norm(gain))


def test_whitened_images_have_mean_0_and_the_stated_variance():
    images = one_over_f(3, 32) * np.array([1, 2, 3])[:, None, None] + 7
    whitened = whitening.whiten(images)
    np.testing.assert_allclose(whitened.mean(axis=(1, 2)), 0, atol=1e-12)
    assert whitened.var(axis=(1, 2)).mean() == pytest.approx(0.1)
    # One factor for all images keeps their relative contrast.
    ratio = whitened.std(axis=(1, 2))
    assert ratio[2] / ratio[0] == pytest.approx(3, rel=0.2)


def test_non_square_images_are_filtered_by_cycles_per_pixel():
    y, x = np.indices((32, 64))
    slow, fast = np.cos(2 * np.pi * x / 16), np.cos(2 * np.pi * y / 8)
    whitened = whitening.whiten((slow + fast)[None])[0]
    ratio = np.mean(whitened * fast) / np.mean(whitened * slow)
    assert ratio == pytest.approx(2 * np.exp(-(0.125**4 - 0.0625**4) / 0.4**4))


def test_spectrum_of_a_wave_is_in_its_ring_in_all_directions():
    for across, down in ((20, 0), (0, 20), (12, 16)):
        frequency, amplitude = whitening.radial_spectrum(wave(64, across, down)[None])
        assert frequency.tolist() == list(range(1, 33))
        assert frequency[amplitude.argmax()] == 20
        assert amplitude[[5, 12, 28]].max() < 0.02 * amplitude.max()


def test_spectrum_of_white_noise_is_its_standard_deviation():
    noise = np.random.default_rng(0).normal(scale=3, size=(20, 64, 64))
    _, amplitude = whitening.radial_spectrum(noise)
    np.testing.assert_allclose(amplitude[3:], 3, rtol=0.1)


def test_whitening_flattens_one_over_f_up_to_the_cutoff():
    images = one_over_f(24, 128)
    arrays = whitening.figure_arrays(images, whitening.whiten(images))
    frequency = arrays["frequency"]
    rings = (frequency >= 4) & (frequency <= 24)  # the factor of the cut-off is above 0.95 there
    logs = np.log(frequency[rings])
    before, after = (
        np.polyfit(logs, np.log(arrays[f"amplitude_{when}"][rings]), 1)[0]
        for when in ("before", "after")
    )
    assert before == pytest.approx(-1, abs=0.05)
    assert after == pytest.approx(0, abs=0.05)
    last = arrays["amplitude_after"][-1] / arrays["amplitude_after"][rings].mean()
    assert last == pytest.approx(np.exp(-((64 / (0.4 * 128)) ** 4)), rel=0.3)
    np.testing.assert_array_equal(arrays["image_before"], images[0].astype(np.float32))
