"""Holds what is measured of codes to plain numpy."""

import numpy as np

from jaxlabs.analysis import vae_latents

RANDOM = np.random.default_rng(0)


def test_distance_is_that_to_the_nearest_of_all():
    pictures = RANDOM.uniform(size=(4, 3, 2, 1))
    known = RANDOM.integers(0, 256, (9, 3, 2, 1), dtype=np.uint8)
    expected = [min(np.sum((one - other / 255) ** 2) for other in known) for one in pictures]
    found = vae_latents.distance_to_nearest(np.float32(pictures), known)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-4)
    assert abs(vae_latents.distance_to_nearest(np.float32(known) / 255, known)) < 1e-4


def test_codes_of_two_units_stay_and_of_one_unit_lie_on_a_line():
    codes = RANDOM.normal(size=(20, 2))
    np.testing.assert_array_equal(vae_latents._plane(codes)[0], codes)
    line, share = vae_latents._plane(codes[:, :1])
    np.testing.assert_array_equal(line, np.c_[codes[:, 0], np.zeros(20)])
    assert share == 1


def test_plane_of_many_units_holds_the_largest_variance():
    codes = RANDOM.normal(size=(500, 4)) * [0.1, 3, 0.2, 2] + 7
    plane, share = vae_latents._plane(codes)
    np.testing.assert_allclose(np.abs(np.corrcoef(plane.T, codes.T)[0, 3]), 1, atol=0.01)
    np.testing.assert_allclose(share, 13 / 13.05, atol=0.002)


def test_lines_join_different_classes_and_without_classes_the_first_pictures():
    labels = np.array([3, 3, 0, 5, 0, 1, 3, 9])
    assert sorted(vae_latents._one_of_each(labels)) == [0, 2, 3, 5]
    np.testing.assert_array_equal(vae_latents._one_of_each(np.zeros(5, int)), np.arange(4))
