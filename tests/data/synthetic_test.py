"""Holds jaxlabs/data/synthetic.py to the entropy rate it states."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxlabs.data.synthetic import MarkovSource, WordSource


def block_entropy(source: MarkovSource, length: int) -> float:
    """Entropy of `length` letters in a row, in nats, summed over every such block."""
    total = 0.0
    for block in itertools.product(range(len(source.letters)), repeat=length):
        chance = source.stationary[block[0]]
        for before, after in itertools.pairwise(block):
            chance *= source.transitions[before, after]
        total -= chance * math.log(chance)
    return total


def test_two_letter_chain_by_hand():
    source = MarkovSource("ab", np.array([[0.9, 0.1], [0.4, 0.6]]))
    # Balance: share(a) * 0.1 = share(b) * 0.4, so the shares are 0.8 and 0.2.
    np.testing.assert_allclose(source.stationary, [0.8, 0.2], rtol=1e-12)
    expected = -0.8 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected -= 0.2 * (0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert source.entropy_rate == pytest.approx(expected, rel=1e-12)


def test_impossible_transitions_cost_nothing():
    coin = MarkovSource("ab", np.full((2, 2), 0.5))
    cycle = MarkovSource("ab", np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert coin.entropy_rate == pytest.approx(math.log(2), rel=1e-12)
    assert cycle.entropy_rate == pytest.approx(0, abs=1e-12)
    assert cycle.sample(10) in ("ab" * 5, "ba" * 5)


def test_entropy_rate_is_what_one_more_letter_adds_to_a_block():
    source = MarkovSource.random(size=4, seed=1)
    added = block_entropy(source, 6) - block_entropy(source, 5)
    assert source.entropy_rate == pytest.approx(added, rel=1e-10)


def test_stationary_shares_are_where_the_chain_settles():
    source = MarkovSource.random()
    settled = np.linalg.matrix_power(source.transitions, 1000)
    np.testing.assert_allclose(settled, np.tile(source.stationary, (20, 1)), atol=1e-12)


def test_long_sample_costs_its_entropy_rate():
    source = MarkovSource.random()
    text = source.sample(500_000)
    places = np.array([source.letters.index(letter) for letter in text])
    surprise = -np.log(source.transitions[places[:-1], places[1:]])
    # Successive surprises are nearly independent; 5 standard errors, doubled for what dependence.
    tolerance = 10 * surprise.std() / math.sqrt(len(surprise))
    assert abs(surprise.mean() - source.entropy_rate) < tolerance
    assert tolerance < 0.01 * source.entropy_rate


def test_bigram_entropy_of_a_sample_is_the_entropy_rate():
    source = MarkovSource.random()
    places = np.frombuffer(source.sample(500_000).encode(), np.uint8) - ord("a")
    pairs = np.bincount(places[:-1] * np.int64(20) + places[1:], minlength=400).reshape(20, 20)
    rows = pairs.sum(axis=1)
    conditional = (rows * stats.entropy(pairs, axis=1)).sum() / rows.sum()
    assert conditional == pytest.approx(source.entropy_rate, rel=0.01)


def test_each_letter_is_followed_as_its_row_says():
    source = MarkovSource("abc", np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.3, 0.6, 0.1]]))
    text = source.sample(30_000, seed=3)
    for row, before in enumerate("abc"):
        times = [
            sum(a + b == before + after for a, b in itertools.pairwise(text)) for after in "abc"
        ]
        expected = source.transitions[row] * sum(times)
        assert stats.chisquare(times, expected).pvalue > 1e-3


def test_first_letter_is_drawn_from_the_stationary_shares():
    source = MarkovSource("ab", np.array([[0.9, 0.1], [0.4, 0.6]]))
    starts = sum(source.sample(1, seed) == "a" for seed in range(2000))
    assert stats.binomtest(starts, 2000, 0.8).pvalue > 1e-3


def test_sample_follows_from_its_seed():
    source = MarkovSource.random()
    assert source.sample(100, seed=1) == source.sample(100, seed=1)
    assert source.sample(100, seed=1) != source.sample(100, seed=2)
    assert len(source.sample(1)) == 1


def test_entropy_of_words_is_that_of_their_choice_shared_by_their_characters():
    """Also by counting: a text of n words costs n ln 8, whatever its length turns out to be."""
    source = WordSource()
    assert len(set(source.words)) == len(source.words) == 8
    text = source.sample(20_000)
    assert source.entropy_rate == pytest.approx(20_000 * math.log(8) / len(text), rel=0.01)
    assert set(text.split()) == set(source.words)
    shares = np.unique(text.split(), return_counts=True)[1] / 20_000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)
    assert WordSource(("a", "b")).entropy_rate == pytest.approx(math.log(2) / 2)
