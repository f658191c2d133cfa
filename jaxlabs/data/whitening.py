"""Whitening of natural images, and their amplitude spectrum.

Olshausen and Field (1997), "Sparse coding with an overcomplete basis set: a strategy employed by
V1?", Vision Research 37: the amplitude of natural images falls as 1/f, so a filter that rises as f
flattens the spectrum; the factor exp(-(f/f0)^4) removes the highest frequencies, which hold noise
and aliasing.
"""

import numpy as np

from jaxlabs.config import ArgumentError

CUTOFF = 0.4
"""f0 in cycles per pixel; the paper's 200 cycles per image of 512 pixels, rounded up to 0.4."""

VARIANCE = 0.1
"""Variance of the whitened pixels, the mean over images, as in the sparsenet code."""


def whiten(images: np.ndarray) -> np.ndarray:
    """Filters images `[count, height, width]` with `|f| exp(-(f/f0)^4)`, then sets their variance.

    The result has the same shape, in float64. The mean of every image becomes 0, since the filter
    is 0 at frequency 0. One factor for all images makes the mean of their variances VARIANCE. The
    filter is circular, as in the original, which distorts pixels at the borders.

    Raises:
      UserError: every image is constant.
    """
    gain = _frequency(*images.shape[1:])
    gain = gain * np.exp(-((gain / CUTOFF) ** 4))
    filtered = np.fft.ifft2(np.fft.fft2(images) * gain[None]).real
    variance = filtered.var(axis=(1, 2)).mean()
    if not variance > 0:
        raise ArgumentError("dataset", "all images are constant; images with contrast are needed")
    return filtered * np.sqrt(VARIANCE / variance)


def radial_spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the radially averaged amplitude spectrum of images `[count, height, width]`.

    A Hann window removes the discontinuity at the borders.

    Returns:
      `frequency [bins]` in cycles per image (of the shorter side), 1 to half of its pixels;
      `amplitude [bins]`, the root mean power in the ring around each frequency, per pixel.
    """
    height, width = images.shape[1:]
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    centered = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.mean(np.abs(np.fft.fft2(centered * window[None])) ** 2, axis=0)
    power /= np.sum(window**2)
    shorter = min(height, width)
    ring = np.round(_frequency(height, width) * shorter).astype(int).ravel()
    total = np.bincount(ring, power.ravel())
    mean = total / np.maximum(np.bincount(ring), 1)
    frequency = np.arange(1, shorter // 2 + 1)
    return frequency, np.sqrt(mean[frequency])


def figure_arrays(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the arrays of the figure "whitening", from images `[count, height, width]`."""
    frequency, amplitude = radial_spectrum(before)
    return {
        "image_before": before[0].astype(np.float32),
        "image_after": after[0].astype(np.float32),
        "frequency": frequency,
        "amplitude_before": amplitude,
        "amplitude_after": radial_spectrum(after)[1],
    }


def _frequency(height: int, width: int) -> np.ndarray:
    """Returns the frequency of every Fourier coefficient in cycles per pixel, `[height, width]`."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
