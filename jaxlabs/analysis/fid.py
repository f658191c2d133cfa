"""How like real pictures others are: figures of a classifier's features of both.

All of these compare sets of features `[count, width]`. The classifier stands in for the Inception
network of the usual scores, so that values compare within a data set and a classifier only.
"""

import numpy as np
import scipy.special

NEIGHBORS = 3
"""Whose distance is the radius of a picture's ball (k of Kynkaanniemi et al. 2019)."""

CHUNK = 1000
"""Rows of a matrix of distances that are held at once."""


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns pictures in [-1, 1] as uint8, as real ones are stored; what lies outside is cut."""
    return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Returns the squared Frechet distance of the normal distributions fitted to two sets.

    Heusel et al. 2017 (there of Inception features, as "FID"). It is biased upwards by about the
    number of features over that of pictures, so that only sets of the same sizes compare.

    Args:
      features: [count, width], at least two rows.
      others: [other count, width], at least two rows.
    """
    moments = [
        (rows.mean(axis=0), np.atleast_2d(np.cov(rows.T)))
        for rows in (np.asarray(part, np.float64) for part in (features, others))
    ]
    return frechet_of_moments(*moments[0], *moments[1])


def frechet_of_moments(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Returns `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` (Dowson and Landau 1982).

    The trace of the root is the sum of the roots of the eigenvalues of `C1^(1/2) C2 C1^(1/2)`,
    which is symmetric, so that singular covariances do no harm.
    """
    sizes, axes = np.linalg.eigh(covariance)
    root = (axes * np.sqrt(np.maximum(sizes, 0))) @ axes.T
    cross = np.linalg.eigvalsh(root @ other_covariance @ root)
    apart = np.sum((mean - other_mean) ** 2)
    spread = np.trace(covariance) + np.trace(other_covariance)
    return float(max(apart + spread - 2 * np.sqrt(np.maximum(cross, 0)).sum(), 0))


def precision_recall(real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Returns what share of made pictures lies among real ones, and of real ones among made ones.

    Kynkaanniemi et al. 2019: around each picture of one set lies a ball as large as the distance to
    its third neighbor in that set; a picture of the other set is among them if any ball holds it.

    Args:
      real: features [count, width] of more than three pictures.
      made: features [other count, width] of more than three pictures.
    """
    # Single precision is many times faster here; features near the origin keep its digits.
    middle = np.mean(real, axis=0, dtype=np.float64)[None, :]
    real, made = ((part - middle).astype(np.float32) for part in (real, made))
    return _share_inside(made, real), _share_inside(real, made)


def _share_inside(points: np.ndarray, centers: np.ndarray) -> float:
    # The nearest neighbor of a point within its own set is the point itself.
    radii = np.concatenate(
        [
            np.partition(_squared_distances(part, centers), NEIGHBORS, axis=1)[:, NEIGHBORS]
            for part in _chunks(centers)
        ]
    )
    inside = [
        (_squared_distances(part, centers) <= radii[None, :]).any(axis=1)
        for part in _chunks(points)
    ]
    return float(np.concatenate(inside).mean())


def _squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * rows @ others.T, 0)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]


def class_histogram(probabilities: np.ndarray) -> np.ndarray:
    """Returns how many pictures are likeliest of each class, `[classes]`, of `[count, classes]`."""
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def class_entropy(counts: np.ndarray) -> float:
    """Returns the entropy of the classes in nats; ln(classes) where none dominates."""
    return float(scipy.special.entr(counts / counts.sum()).sum())


def quality(real: np.ndarray, made: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the figures of one set of made pictures by name.

    Args:
      real: features [count, width] of real pictures.
      made: features [other count, width] of made ones.
      probabilities: [other count, classes] of the made ones' classes.

    Returns:
      `frechet`, `precision`, `recall`, `class_entropy` in nats, and `prediction_entropy`: the mean
      entropy of a single picture's class in nats, which is low where pictures are clearly of one
      class.
    """
    precision, recall = precision_recall(real, made)
    return {
        "frechet": frechet_distance(real, made),
        "precision": precision,
        "recall": recall,
        "class_entropy": class_entropy(class_histogram(probabilities)),
        "prediction_entropy": float(scipy.special.entr(probabilities).sum(axis=1).mean()),
    }


def nearest_pictures(made: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of the nearest real pictures `[count]`, and how far they are `[count]`.

    The distance is the root of the mean squared difference of pixels, in the pixels' unit.

    Args:
      made: [count, ...] few pictures.
      real: [other count, ...] any number of pictures of the same shape and unit.
    """
    rows = made.reshape(len(made), -1).astype(np.float64)
    others = real.reshape(len(real), -1)
    squares = np.concatenate(
        [_squared_distances(rows, part.astype(np.float64)) for part in _chunks(others)], axis=1
    )
    places = squares.argmin(axis=1)
    # Summed anew, since the difference of large squares above is rough.
    distances = np.sqrt(((rows - others[places]) ** 2).mean(axis=1))
    return places, distances
