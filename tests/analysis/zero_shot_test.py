"""Holds retrieval to ranks counted by hand, and reliability to coins of known chances."""

import numpy as np
import pytest

from jaxlabs.analysis.zero_shot import BINS, pair_probabilities, recalls, reliability


def test_recall_counts_descriptions_for_images_and_images_for_descriptions():
    # Images 0 and 1 share description 0; description 2 belongs to no image.
    own = np.array([0, 0, 1])
    cosines = np.array([[0.9, 0.1, 0.2], [0.1, 0.5, 0.8], [0.3, 0.7, 0.6]])
    found = recalls(cosines, own)
    assert found["image_to_text_recall_at_1"] == pytest.approx(2 / 3)
    assert found["image_to_text_recall_at_5"] == 1
    assert found["text_to_image_recall_at_1"] == 1  # one of two images is enough
    cosines[2, 0] = 0.95  # a stranger before both, who costs the description its first place
    found = recalls(cosines, own)
    assert found["text_to_image_recall_at_1"] == 1 / 2
    assert found["image_to_text_recall_at_1"] == pytest.approx(1 / 3)


def test_ties_count_against_the_model():
    found = recalls(np.zeros((6, 6)), np.arange(6))
    assert found["image_to_text_recall_at_1"] == found["text_to_image_recall_at_5"] == 0
    assert recalls(np.eye(6), np.arange(6))["image_to_text_recall_at_1"] == 1
    assert recalls(np.zeros((3, 3)), np.arange(3))["text_to_image_recall_at_5"] == 1


def test_coins_of_told_chances_are_reliable_and_boasters_are_not():
    random = np.random.default_rng(0)
    told = random.random(40_000)
    found = reliability(told, random.random(40_000) < told)
    assert found["count"].sum() == 40_000
    np.testing.assert_allclose(found["share"], found["confidence"], atol=0.02)
    assert found["gap"].sum() / 40_000 < 0.01
    boast = reliability(np.full(1000, 0.97), np.arange(1000) < 700)
    assert boast["gap"].sum() / 1000 == pytest.approx(0.27)
    assert (boast["share"][-1], boast["confidence"][-1]) == pytest.approx((0.7, 0.97))
    assert np.isnan(boast["share"][: BINS - 1]).all()
    assert reliability(np.array([1.0]), np.array([True]))["count"][-1] == 1


def test_clip_expects_one_pair_an_image_and_siglip_as_many_as_it_says():
    batches = [np.random.default_rng(0).normal(size=(count, count)) for count in (5, 3)]
    told, hits = pair_probabilities(batches, "clip")
    assert told.shape == hits.shape == (25 + 9,)
    assert (told.sum(), hits.sum()) == (pytest.approx(8), 8)
    np.testing.assert_allclose(told[:25].reshape(5, 5).sum(axis=1), 1)  # of the texts of an image
    told, _ = pair_probabilities([np.zeros((4, 4))], "siglip")
    np.testing.assert_array_equal(told, 0.5)
