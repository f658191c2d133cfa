import math

import numpy as np
import pytest
import scipy.linalg

from jaxlabs.analysis import fid
from jaxlabs.analysis.fid import (
    class_entropy,
    class_histogram,
    frechet_distance,
    frechet_of_moments,
    nearest_pictures,
    precision_recall,
    quality,
)


def cloud(count, width=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width))


def test_bytes_are_real_pixels_again():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(fid.as_bytes(pixels / 127.5 - 1), pixels)
    np.testing.assert_array_equal(fid.as_bytes(np.array([-3.0, 2.0])), [0, 255])


def test_frechet_distance_of_normal_distributions_in_closed_form():
    """In one dimension it is the difference of means and of deviations, squared and added."""
    one = np.eye(1)
    assert frechet_of_moments(np.zeros(1), 4 * one, np.ones(1), 9 * one) == pytest.approx(2.0)
    first, second = (matrix.T @ matrix / 7 for matrix in (cloud(7), cloud(7, seed=1)))
    apart = np.arange(5.0)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = apart @ apart + np.trace(first + second - 2 * root)
    assert frechet_of_moments(apart, first, 0 * apart, second) == pytest.approx(expected)


def test_frechet_distance_of_sets():
    features = cloud(50)
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, features + 2) == pytest.approx(5 * 4)
    doubled = frechet_distance(features, 2 * features)
    mean = features.mean(axis=0)
    assert doubled == pytest.approx(mean @ mean + np.trace(np.cov(features.T)))
    flat = features * np.array([1.0, 1, 1, 0, 0])  # singular covariance
    assert frechet_distance(flat, flat + 1) == pytest.approx(5)
    assert frechet_distance(features, cloud(60, seed=1)) == pytest.approx(
        frechet_distance(cloud(60, seed=1), features)
    )


def test_precision_and_recall_equal_loops_over_pictures(monkeypatch):
    monkeypatch.setattr(fid, "CHUNK", 7)
    real, made = cloud(30, 2), 0.7 * cloud(20, 2, seed=1) + 1.5

    def share(points, centers):
        radii = [sorted(math.dist(c, other) for other in centers)[3] for c in centers]
        inside = [
            any(math.dist(point, c) <= r for c, r in zip(centers, radii, strict=True))
            for point in points
        ]
        return sum(inside) / len(points)

    expected = share(made, real), share(real, made)
    assert precision_recall(real, made) == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) < 1


def test_precision_falls_with_pictures_unlike_any_and_recall_with_missing_kinds():
    two_kinds = np.concatenate([cloud(40), cloud(40, seed=1) + 50])
    assert precision_recall(two_kinds, two_kinds) == (1.0, 1.0)
    one_kind = two_kinds[:40]
    assert precision_recall(two_kinds, one_kind) == (1.0, 0.5)
    assert precision_recall(one_kind, two_kinds) == (0.5, 1.0)
    assert precision_recall(two_kinds, two_kinds + 1000) == (0.0, 0.0)


def test_class_entropy_is_that_of_an_even_draw_where_no_class_dominates():
    sure = np.eye(4)[[0, 1, 2, 3, 3, 3]]
    np.testing.assert_array_equal(class_histogram(sure), [1, 1, 1, 3])
    assert class_entropy(np.array([5, 5, 5, 5])) == pytest.approx(math.log(4))
    assert class_entropy(np.array([9, 0, 0])) == 0
    features = cloud(6)
    figures = quality(features, features, sure)
    assert figures == pytest.approx(
        {
            "frechet": 0,
            "precision": 1,
            "recall": 1,
            "class_entropy": class_entropy(np.array([1, 1, 1, 3])),
            "prediction_entropy": 0,
        },
        abs=1e-10,
    )
    assert quality(features, features, np.full((6, 4), 0.25))[
        "prediction_entropy"
    ] == pytest.approx(math.log(4))


def test_nearest_pictures_are_those_of_a_search_one_by_one(monkeypatch):
    monkeypatch.setattr(fid, "CHUNK", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (15, 3, 3, 1)).astype(np.uint8)
    made, real = pixels[:5], pixels[3:]
    places, distances = nearest_pictures(made, real)
    for row, place, distance in zip(made, places, distances, strict=True):
        all_of_them = [np.sqrt(np.mean((row.astype(float) - other) ** 2)) for other in real]
        assert place == np.argmin(all_of_them)
        assert distance == pytest.approx(min(all_of_them))
    np.testing.assert_array_equal(distances[3:], 0)
