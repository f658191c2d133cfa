"""Least-squares fits of Gabor functions to learned filters.

A Gabor function is a sinusoid with a Gaussian envelope, the model of simple cells of Daugman
(1985):

    g(u, v) = amplitude exp(-(u'^2 / (2 s_u^2) + v'^2 / (2 s_v^2))) cos(2 pi frequency u' + phase)

where u' is the coordinate across the stripes and v' along them, relative to the center of the
envelope.
"""

from typing import NamedTuple

import numpy as np

STARTS = 4
"""Initial guesses of a fit: the strongest frequencies of the filter's Fourier transform."""


class GaborFits(NamedTuple):
    """The best Gabor function of each filter.

    Attributes:
      explained: [filters] fraction of variance explained, in [0, 1].
      orientation: [filters] angle of the stripes in degrees in [0, 180), counter-clockwise from
        the horizontal.
      frequency: [filters] cycles per pixel.
      fitted: [filters, size, size] the fitted functions.
    """

    explained: np.ndarray
    orientation: np.ndarray
    frequency: np.ndarray
    fitted: np.ndarray


def fit_gabors(filters: np.ndarray) -> GaborFits:
    """Fits a Gabor function to each of `filters [filters, size, size]` by least squares.

    The mean of each filter is subtracted first. The fraction of variance explained of a constant
    filter is 0.
    """
    fits = [_fit(kernel - kernel.mean()) for kernel in np.asarray(filters, np.float64)]
    columns = zip(*fits, strict=True)
    return GaborFits(*(np.stack(column) for column in columns))


def _fit(target):
    from scipy.optimize import least_squares

    size, scale = target.shape[0], np.abs(target).max()
    if scale == 0:
        return 0.0, 0.0, 0.0, np.zeros_like(target)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    target = target / scale
    # Envelopes from half a pixel to twice the patch; frequencies up to the Nyquist limit.
    half = size / 2
    low = [-np.inf, -half, -half, 0.5, 0.5, -np.inf, 0.01, -np.inf, -1]
    high = [np.inf, half, half, 2 * size, 2 * size, np.inf, 0.5, np.inf, 1]

    def residuals(p):
        return (_gabor(p, rows, columns) - target).ravel()

    starts = _starts(target, rows, columns)
    fits = [least_squares(residuals, start, bounds=(low, high)) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    explained = 1 - 2 * best.cost / np.sum((target - target.mean()) ** 2)
    across, frequency = best.x[5], best.x[6]
    # The stripes are perpendicular to the wave vector; image rows count downwards.
    orientation = np.degrees(np.pi / 2 - across) % 180
    return max(explained, 0.0), orientation, frequency, scale * _gabor(best.x, rows, columns)


def _gabor(p, rows, columns):
    amplitude, row, column, across, along, angle, frequency, phase, offset = p
    u = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    v = -(columns - column) * np.sin(angle) + (rows - row) * np.cos(angle)
    envelope = np.exp(-((u / across) ** 2 + (v / along) ** 2) / 2)
    return offset + amplitude * envelope * np.cos(2 * np.pi * frequency * u + phase)


def _starts(target, rows, columns):
    """Returns initial parameters: strong frequencies, centered at the filter's energy."""
    size, padded = target.shape[0], 4 * target.shape[0]
    spectrum = np.abs(np.fft.fft2(target, (padded, padded)))[: padded // 2 + 1]
    frequencies = np.fft.fftfreq(padded)
    energy = target**2 / np.sum(target**2)
    center = [np.sum(energy * rows), np.sum(energy * columns)]
    starts = []
    for index in np.argsort(spectrum, axis=None)[::-1]:
        wave = frequencies[list(np.unravel_index(index, spectrum.shape))]
        frequency = np.hypot(*wave)
        others = [sign * other for _, other in starts for sign in (1, -1)]
        distinct = all(np.hypot(*(wave - other)) > 1.5 / size for other in others)
        if not 0.01 < frequency < 0.5 or not distinct:
            continue
        angle = np.arctan2(wave[0], wave[1])
        shift = (columns - center[1]) * np.cos(angle) + (rows - center[0]) * np.sin(angle)
        phase = np.angle(np.sum(target * np.exp(-2j * np.pi * frequency * shift)))
        start = [1, *center, size / 4, size / 4, angle, frequency, phase, 0]
        starts.append((np.array(start), wave))
        if len(starts) == STARTS:
            break
    return [start for start, _ in starts]
