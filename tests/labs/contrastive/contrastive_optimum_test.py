"""Minimum contrastive losses equal hand-computed cases and the training losses."""

import math

import numpy as np
import pytest

from jaxlabs.labs.contrastive.contrastive_optimum import caption_matches, chance_loss, optimum
from jaxlabs.losses import contrastive

RANDOM = np.random.default_rng(0)
LABELS = np.column_stack([RANDOM.integers(high, size=600) for high in (4, 3, 3)])
MENTIONED = np.where(RANDOM.random((600, 3)) < 0.5, LABELS, -1)
MENTIONED[:, 0] = LABELS[:, 0]


def test_unmentioned_attributes_match_every_image():
    attribute_labels = np.array([[7, 2, 0], [7, 1, 0], [3, 2, 0]])
    mentioned_attributes = np.array([[7, -1, -1], [7, 2, 0], [3, 2, 1]])
    expected = [[True, True, False], [True, False, False], [False, False, False]]
    np.testing.assert_array_equal(caption_matches(mentioned_attributes, attribute_labels), expected)


def test_optimum_of_distinct_and_of_identical_captions():
    distinct = np.array([[digit, 0, 0] for digit in range(8)])
    assert optimum("clip", distinct, distinct, 8) == pytest.approx(0, abs=1e-12)
    # A caption matches 1 of 8 images: the logit is log 8 - log 7; others never match.
    assert optimum("siglip", distinct, distinct, 8) == pytest.approx(math.log1p(7 / 8))
    identical = np.zeros((8, 3), int)
    for loss in ("clip", "siglip"):
        assert optimum(loss, identical, identical, 8) == pytest.approx(chance_loss(loss, 8))
        assert optimum(loss, identical, identical, 1) == chance_loss(loss, 1) == 0
    # Batches of 3, 3 and 2.
    assert optimum("clip", identical, identical, 3) == pytest.approx(
        (6 * math.log(3) + 2 * math.log(2)) / 8
    )


def test_chance_loss_is_minimum_of_constant_logits():
    logits = np.linspace(-6, 2, 4001)
    losses = np.logaddexp(0, -logits) + 9 * np.logaddexp(0, logits)
    assert chance_loss("siglip", 10) == pytest.approx(losses.min(), abs=1e-5)
    assert chance_loss("clip", 10) == pytest.approx(math.log(10))


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_optimum_equals_training_loss_at_optimal_logits(loss):
    frequency = caption_matches(MENTIONED, LABELS).mean(axis=0)
    best = np.where(caption_matches(MENTIONED, LABELS), -np.log(frequency)[None, :], -1e4)
    shift = math.log(599) if loss == "siglip" else 0.0
    loss_fn = contrastive.symmetric_info_nce if loss == "clip" else contrastive.pairwise_sigmoid

    def mean_loss(logits):
        return float(loss_fn(logits.astype(np.float32)).mean())

    minimum = optimum(loss, MENTIONED, LABELS, 600)
    assert mean_loss(best - shift) == pytest.approx(minimum, rel=1e-4)
    for other in (1.3 * best - shift, 0.7 * best - shift, np.maximum(best, -3) - shift):
        assert mean_loss(other) > minimum + 0.005
    assert minimum < chance_loss(loss, 600)
