"""Retrieval ranks equal hand-computed ones; reliability detects overconfidence."""

import numpy as np
import pytest

from jaxlabs.labs.contrastive.zero_shot import BINS, pair_probabilities, recalls, reliability


def test_recall_of_captions_by_image_and_images_by_caption():
    # Images 0 and 1 share caption 0; caption 2 has no image.
    own = np.array([0, 0, 1])
    cosines = np.array([[0.9, 0.1, 0.2], [0.1, 0.5, 0.8], [0.3, 0.7, 0.6]])
    result = recalls(cosines, own)
    assert result["image_to_text_recall_at_1"] == pytest.approx(2 / 3)
    assert result["image_to_text_recall_at_5"] == 1
    assert result["text_to_image_recall_at_1"] == 1  # one of two images is enough
    cosines[2, 0] = 0.95  # another image has a higher similarity than both
    result = recalls(cosines, own)
    assert result["text_to_image_recall_at_1"] == 1 / 2
    assert result["image_to_text_recall_at_1"] == pytest.approx(1 / 3)


def test_ties_count_as_errors():
    result = recalls(np.zeros((6, 6)), np.arange(6))
    assert result["image_to_text_recall_at_1"] == result["text_to_image_recall_at_5"] == 0
    assert recalls(np.eye(6), np.arange(6))["image_to_text_recall_at_1"] == 1
    assert recalls(np.zeros((3, 3)), np.arange(3))["text_to_image_recall_at_5"] == 1


def test_calibrated_predictions_are_reliable_and_overconfident_ones_are_not():
    random = np.random.default_rng(0)
    probabilities = random.random(40_000)
    result = reliability(probabilities, random.random(40_000) < probabilities)
    assert result["count"].sum() == 40_000
    np.testing.assert_allclose(result["accuracy"], result["confidence"], atol=0.02)
    assert result["gap"].sum() / 40_000 < 0.01
    overconfident = reliability(np.full(1000, 0.97), np.arange(1000) < 700)
    assert overconfident["gap"].sum() / 1000 == pytest.approx(0.27)
    assert (overconfident["accuracy"][-1], overconfident["confidence"][-1]) == pytest.approx(
        (0.7, 0.97)
    )
    assert np.isnan(overconfident["accuracy"][: BINS - 1]).all()
    assert reliability(np.array([1.0]), np.array([True]))["count"][-1] == 1


def test_pair_probabilities_of_clip_sum_to_one_per_image_and_of_siglip_do_not():
    batches = [np.random.default_rng(0).normal(size=(count, count)) for count in (5, 3)]
    probabilities, hits = pair_probabilities(batches, "clip")
    assert probabilities.shape == hits.shape == (25 + 9,)
    assert (probabilities.sum(), hits.sum()) == (pytest.approx(8), 8)
    np.testing.assert_allclose(
        probabilities[:25].reshape(5, 5).sum(axis=1), 1
    )  # over the texts of an image
    probabilities, _ = pair_probabilities([np.zeros((4, 4))], "siglip")
    np.testing.assert_array_equal(probabilities, 0.5)
