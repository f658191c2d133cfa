import math

import numpy as np
import pytest
import scipy.linalg

from jaxlabs.analysis import fid
from jaxlabs.analysis.fid import (
    class_entropy,
    class_histogram,
    fid_metrics,
    frechet_distance,
    frechet_of_moments,
    nearest_neighbors,
    precision_recall,
)


def gaussian_features(count, size=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size))


def test_as_bytes_inverts_normalization():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(fid.as_bytes(pixels / 127.5 - 1), pixels)
    np.testing.assert_array_equal(fid.as_bytes(np.array([-3.0, 2.0])), [0, 255])


def test_frechet_distance_of_gaussians_equals_closed_form():
    """In one dimension: squared difference of means plus that of standard deviations."""
    one = np.eye(1)
    assert frechet_of_moments(np.zeros(1), 4 * one, np.ones(1), 9 * one) == pytest.approx(2.0)
    first, second = (
        matrix.T @ matrix / 7 for matrix in (gaussian_features(7), gaussian_features(7, seed=1))
    )
    mean = np.arange(5.0)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = mean @ mean + np.trace(first + second - 2 * root)
    assert frechet_of_moments(mean, first, 0 * mean, second) == pytest.approx(expected)


def test_frechet_distance_of_feature_sets():
    features = gaussian_features(50)
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, features + 2) == pytest.approx(5 * 4)
    doubled = frechet_distance(features, 2 * features)
    mean = features.mean(axis=0)
    assert doubled == pytest.approx(mean @ mean + np.trace(np.cov(features.T)))
    flat = features * np.array([1.0, 1, 1, 0, 0])  # singular covariance
    assert frechet_distance(flat, flat + 1) == pytest.approx(5)
    assert frechet_distance(features, gaussian_features(60, seed=1)) == pytest.approx(
        frechet_distance(gaussian_features(60, seed=1), features)
    )


def test_precision_and_recall_equal_loops_over_images(monkeypatch):
    monkeypatch.setattr(fid, "CHUNK", 7)
    real, generated = gaussian_features(30, 2), 0.7 * gaussian_features(20, 2, seed=1) + 1.5

    def fraction_inside(points, centers):
        radii = [sorted(math.dist(c, other) for other in centers)[3] for c in centers]
        inside = [
            any(math.dist(point, c) <= r for c, r in zip(centers, radii, strict=True))
            for point in points
        ]
        return sum(inside) / len(points)

    expected = fraction_inside(generated, real), fraction_inside(real, generated)
    assert precision_recall(real, generated) == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) < 1


def test_precision_drops_with_outliers_and_recall_with_missing_modes():
    two_modes = np.concatenate([gaussian_features(40), gaussian_features(40, seed=1) + 50])
    assert precision_recall(two_modes, two_modes) == (1.0, 1.0)
    one_mode = two_modes[:40]
    assert precision_recall(two_modes, one_mode) == (1.0, 0.5)
    assert precision_recall(one_mode, two_modes) == (0.5, 1.0)
    assert precision_recall(two_modes, two_modes + 1000) == (0.0, 0.0)


def test_class_entropy_of_uniform_classes_is_log_of_classes():
    confident = np.eye(4)[[0, 1, 2, 3, 3, 3]]
    np.testing.assert_array_equal(class_histogram(confident), [1, 1, 1, 3])
    assert class_entropy(np.array([5, 5, 5, 5])) == pytest.approx(math.log(4))
    assert class_entropy(np.array([9, 0, 0])) == 0
    features = gaussian_features(6)
    metrics = fid_metrics(features, features, confident)
    assert metrics == pytest.approx(
        {
            "fid": 0,
            "precision": 1,
            "recall": 1,
            "class_entropy": class_entropy(np.array([1, 1, 1, 3])),
            "prediction_entropy": 0,
        },
        abs=1e-10,
    )
    assert fid_metrics(features, features, np.full((6, 4), 0.25))[
        "prediction_entropy"
    ] == pytest.approx(math.log(4))


def test_nearest_neighbors_equal_exhaustive_search(monkeypatch):
    monkeypatch.setattr(fid, "CHUNK", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (15, 3, 3, 1)).astype(np.uint8)
    generated, real = pixels[:5], pixels[3:]
    indices, distances = nearest_neighbors(generated, real)
    for row, index, distance in zip(generated, indices, distances, strict=True):
        all_distances = [np.sqrt(np.mean((row.astype(float) - other) ** 2)) for other in real]
        assert index == np.argmin(all_distances)
        assert distance == pytest.approx(min(all_distances))
    np.testing.assert_array_equal(distances[3:], 0)
