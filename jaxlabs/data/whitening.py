"""Whitening of photographs, and the spectrum that shows it.

Olshausen and Field (1997), "Sparse coding with an overcomplete basis set: a strategy employed by
V1?", Vision Research 37: the amplitude of natural images falls as 1/f, so a filter that rises as f
makes all frequencies alike; the factor exp(-(f/f0)^4) takes away the highest ones, which hold noise
and what the pixel grid does.
"""

import numpy as np

from jaxlabs.config import UserError

CUTOFF = 0.4
"""f0 in cycles per pixel; the paper's 200 cycles per picture of 512 pixels, rounded up to 0.4."""

VARIANCE = 0.1
"""Of the whitened pixels, the mean over pictures; the scale that the sparsenet code works on."""


def whiten(images: np.ndarray) -> np.ndarray:
    """Filters images [count, height, width] with `|f| exp(-(f/f0)^4)`, then sets their variance.

    The mean of every picture becomes 0, for the filter is 0 at frequency 0. One factor for all
    pictures makes the mean of their variances VARIANCE. Opposite borders of a picture count as
    neighbors, as in the original, so the outermost pixels are less natural than the others.

    Returns:
      [count, height, width] float64.

    Raises:
      UserError: every image is of one value.
    """
    gain = _frequency(*images.shape[1:])
    gain = gain * np.exp(-((gain / CUTOFF) ** 4))
    filtered = np.fft.ifft2(np.fft.fft2(images) * gain[None]).real
    variance = filtered.var(axis=(1, 2)).mean()
    if not variance > 0:
        raise UserError(
            "--dataset: the images are all of one value; images with contrast are needed"
        )
    return filtered * np.sqrt(VARIANCE / variance)


def radial_spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the amplitude of pictures [count, height, width] by frequency, in all directions.

    A Hann window keeps the jump between opposite borders out of it.

    Returns:
      frequency [bins] in cycles per picture (of the shorter side), 1 to half of its pixels;
      amplitude [bins], the root of the mean power in the ring around each frequency, per pixel.
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
    """Returns what the report draws as "whitening", from pictures [count, height, width]."""
    frequency, amplitude = radial_spectrum(before)
    return {
        "image_before": before[0].astype(np.float32),
        "image_after": after[0].astype(np.float32),
        "frequency": frequency,
        "amplitude_before": amplitude,
        "amplitude_after": radial_spectrum(after)[1],
    }


def _frequency(height: int, width: int) -> np.ndarray:
    """Returns [height, width]: the frequency of every Fourier coefficient in cycles per pixel."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
