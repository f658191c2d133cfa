"""FID, precision and recall of generated images, from the features of a classifier.

The metrics compare two sets of features `[count, features]`. The features come from a classifier of
the data set and not from an Inception network, so values are comparable only for the same data set
and classifier.
"""

import numpy as np

NEIGHBORS = 3
"""The k of the k-nearest-neighbor radius (Kynkaanniemi et al. 2019)."""

CHUNK = 1000
"""Rows of a distance matrix that are computed at once."""


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images in [-1, 1] as uint8; values outside are clipped."""
    return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Returns the squared Frechet distance between Gaussians fitted to two sets of features.

    Heusel et al. 2017, who use Inception features ("FID"). The estimate is biased upwards by about
    the number of features over the number of images, so compare sets of equal size only.

    Args:
      features: [count, features], at least two rows.
      others: [other count, features], at least two rows.
    """
    moments = []
    for rows in (np.asarray(features, np.float64), np.asarray(others, np.float64)):
        moments += [rows.mean(axis=0), np.atleast_2d(np.cov(rows.T))]
    return frechet_of_moments(*moments)


def frechet_of_moments(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Returns `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` (Dowson and Landau 1982).

    The trace of the matrix root is the sum of the square roots of the eigenvalues of the symmetric
    `C1^(1/2) C2 C1^(1/2)`, which also works for singular covariances.
    """
    eigenvalues, axes = np.linalg.eigh(covariance)
    root = (axes * np.sqrt(np.maximum(eigenvalues, 0))) @ axes.T
    cross = np.linalg.eigvalsh(root @ other_covariance @ root)
    mean_term = np.sum((mean - other_mean) ** 2)
    traces = np.trace(covariance) + np.trace(other_covariance)
    return float(max(mean_term + traces - 2 * np.sqrt(np.maximum(cross, 0)).sum(), 0))


def precision_recall(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Returns precision and recall of generated images (Kynkaanniemi et al. 2019).

    The manifold of a set is the union of balls around its features, each with the distance to the
    third nearest neighbor as radius. Precision is the fraction of generated images on the manifold
    of the real ones, recall the fraction of real images on that of the generated ones.

    Args:
      real: [count, features] of more than three images.
      generated: [other count, features] of more than three images.
    """
    # float32 is many times faster; centering reduces its rounding errors.
    center = np.mean(real, axis=0, dtype=np.float64)[None, :]
    real, generated = ((rows - center).astype(np.float32) for rows in (real, generated))
    return _fraction_inside(generated, real), _fraction_inside(real, generated)


def _fraction_inside(points, centers):
    # The nearest point of its own set is the point itself.
    radii = [
        np.partition(_squared_distances(chunk, centers), NEIGHBORS, axis=1)[:, NEIGHBORS]
        for chunk in _chunks(centers)
    ]
    radii = np.concatenate(radii)[None, :]
    inside = [(_squared_distances(rows, centers) <= radii).any(axis=1) for rows in _chunks(points)]
    return float(np.concatenate(inside).mean())


def _squared_distances(rows, others):
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * rows @ others.T, 0)


def _chunks(rows):
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float64)


def class_histogram(probabilities: np.ndarray) -> np.ndarray:
    """Returns the top-1 predictions per class `[classes]`, from `[count, classes]`."""
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def class_entropy(counts: np.ndarray) -> float:
    """Returns the entropy of class counts in nats; log(classes) for equal counts."""
    from scipy.special import entr

    return float(entr(counts / counts.sum()).sum())


def fid_metrics(
    real: np.ndarray, generated: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Returns the metrics of one set of generated images by name.

    Args:
      real: [count, features] of real images.
      generated: [other count, features] of generated images.
      probabilities: [other count, classes] of the generated images.

    Returns:
      `fid`, `precision`, `recall`, `class_entropy` in nats, and `prediction_entropy`, the mean
      entropy of the class probabilities of one image in nats.
    """
    from scipy.special import entr

    precision, recall = precision_recall(real, generated)
    return {
        "fid": frechet_distance(real, generated),
        "precision": precision,
        "recall": recall,
        "class_entropy": class_entropy(class_histogram(probabilities)),
        "prediction_entropy": float(entr(probabilities).sum(axis=1).mean()),
    }


def nearest_neighbors(images: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices `[count]` of the nearest real images, and their distances `[count]`.

    The distance of `images [count, ...]` and `real [other count, ...]`, of the same shape and
    range, is the root mean squared difference of pixels.
    """
    rows = _flat(images)
    squares = [
        _squared_distances(rows, _flat(real[start : start + CHUNK]))
        for start in range(0, len(real), CHUNK)
    ]
    indices = np.concatenate(squares, axis=1).argmin(axis=1)
    # Recomputed: the difference of large squares above is inaccurate.
    distances = np.sqrt(((rows - _flat(real[indices])) ** 2).mean(axis=1))
    return indices, distances
