"""Holds the best possible losses to cases counted by hand, and to the losses trained."""

import math

import numpy as np
import pytest

from jaxlabs.analysis.contrastive_optimum import chance, optimum, true_of
from jaxlabs.losses import contrastive

RANDOM = np.random.default_rng(0)
TRUTHS = np.column_stack([RANDOM.integers(high, size=600) for high in (4, 3, 3)])
CLAIMS = np.where(RANDOM.random((600, 3)) < 0.5, TRUTHS, -1)
CLAIMS[:, 0] = TRUTHS[:, 0]


def test_what_is_not_said_is_true_of_all():
    truths = np.array([[7, 2, 0], [7, 1, 0], [3, 2, 0]])
    claims = np.array([[7, -1, -1], [7, 2, 0], [3, 2, 1]])
    expected = [[True, True, False], [True, False, False], [False, False, False]]
    np.testing.assert_array_equal(true_of(claims, truths), expected)


def test_descriptions_that_tell_all_apart_or_nothing():
    apart = np.array([[digit, 0, 0] for digit in range(8)])
    assert optimum("clip", apart, apart, 8) == pytest.approx(0, abs=1e-12)
    # A couple that may be a pair is one, once in 8: the logit is log 8 - log 7, and others never.
    assert optimum("siglip", apart, apart, 8) == pytest.approx(math.log1p(7 / 8))
    alike = np.zeros((8, 3), int)
    for loss in ("clip", "siglip"):
        assert optimum(loss, alike, alike, 8) == pytest.approx(chance(loss, 8))
        assert optimum(loss, alike, alike, 1) == chance(loss, 1) == 0
    # The last batch is shorter: 3, 3 and 2.
    assert optimum("clip", alike, alike, 3) == pytest.approx(
        (6 * math.log(3) + 2 * math.log(2)) / 8
    )


def test_chance_is_the_least_loss_of_equal_logits():
    logits = np.linspace(-6, 2, 4001)
    costs = np.logaddexp(0, -logits) + 9 * np.logaddexp(0, logits)
    assert chance("siglip", 10) == pytest.approx(costs.min(), abs=1e-5)
    assert chance("clip", 10) == pytest.approx(math.log(10))


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_optimum_is_the_trained_loss_of_its_logits_and_others_cost_more(loss):
    share = true_of(CLAIMS, TRUTHS).mean(axis=0)
    best = np.where(true_of(CLAIMS, TRUTHS), -np.log(share)[None, :], -1e4)
    shift = math.log(599) if loss == "siglip" else 0.0
    rule = contrastive.symmetric_info_nce if loss == "clip" else contrastive.pairwise_sigmoid

    def cost(logits):
        return float(rule(logits.astype(np.float32)).mean())

    found = optimum(loss, CLAIMS, TRUTHS, 600)
    assert cost(best - shift) == pytest.approx(found, rel=1e-4)
    for other in (1.3 * best - shift, 0.7 * best - shift, np.maximum(best, -3) - shift):
        assert cost(other) > found + 0.005
    assert found < chance(loss, 600)
