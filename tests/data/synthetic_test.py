"""Synthetic sources have the stated entropy rate."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxlabs.data.synthetic import MarkovSource, WordSource


def block_entropy(source: MarkovSource, length: int) -> float:
    """Entropy of blocks of `length` letters, in nats."""
    total = 0.0
    for block in itertools.product(range(len(source.letters)), repeat=length):
        prob = source.stationary[block[0]]
        for before, after in itertools.pairwise(block):
            prob *= source.transitions[before, after]
        total -= prob * math.log(prob)
    return total


def test_two_letter_chain():
    source = MarkovSource("ab", np.array([[0.9, 0.1], [0.4, 0.6]]))
    # Detailed balance: p(a) * 0.1 = p(b) * 0.4, so p is 0.8 and 0.2.
    np.testing.assert_allclose(source.stationary, [0.8, 0.2], rtol=1e-12)
    expected = -0.8 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected -= 0.2 * (0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert source.entropy_rate == pytest.approx(expected, rel=1e-12)


def test_zero_probabilities_contribute_no_entropy():
    coin = MarkovSource("ab", np.full((2, 2), 0.5))
    cycle = MarkovSource("ab", np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert coin.entropy_rate == pytest.approx(math.log(2), rel=1e-12)
    assert cycle.entropy_rate == pytest.approx(0, abs=1e-12)
    assert cycle.sample(10) in ("ab" * 5, "ba" * 5)


def test_entropy_rate_is_the_difference_of_block_entropies():
    source = MarkovSource.random(size=4, seed=1)
    added = block_entropy(source, 6) - block_entropy(source, 5)
    assert source.entropy_rate == pytest.approx(added, rel=1e-10)


def test_stationary_distribution_is_the_limit():
    source = MarkovSource.random()
    settled = np.linalg.matrix_power(source.transitions, 1000)
    np.testing.assert_allclose(settled, np.tile(source.stationary, (20, 1)), atol=1e-12)


def test_nll_of_a_long_sample_is_the_entropy_rate():
    source = MarkovSource.random()
    text = source.sample(500_000)
    indices = np.array([source.letters.index(letter) for letter in text])
    nll = -np.log(source.transitions[indices[:-1], indices[1:]])
    # Successive values are nearly independent: 5 standard errors, doubled for the correlation.
    tolerance = 10 * nll.std() / math.sqrt(len(nll))
    assert abs(nll.mean() - source.entropy_rate) < tolerance
    assert tolerance < 0.01 * source.entropy_rate


def test_bigram_entropy_of_a_sample_is_the_entropy_rate():
    source = MarkovSource.random()
    indices = np.frombuffer(source.sample(500_000).encode(), np.uint8) - ord("a")
    pairs = np.bincount(indices[:-1] * np.int64(20) + indices[1:], minlength=400).reshape(20, 20)
    rows = pairs.sum(axis=1)
    conditional = (rows * stats.entropy(pairs, axis=1)).sum() / rows.sum()
    assert conditional == pytest.approx(source.entropy_rate, rel=0.01)


def test_transition_frequencies_match_the_matrix():
    source = MarkovSource("abc", np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.3, 0.6, 0.1]]))
    text = source.sample(30_000, seed=3)
    for row, before in enumerate("abc"):
        times = [
            sum(a + b == before + after for a, b in itertools.pairwise(text)) for after in "abc"
        ]
        expected = source.transitions[row] * sum(times)
        assert stats.chisquare(times, expected).pvalue > 1e-3


def test_first_letter_has_the_stationary_distribution():
    source = MarkovSource("ab", np.array([[0.9, 0.1], [0.4, 0.6]]))
    starts = sum(source.sample(1, seed) == "a" for seed in range(2000))
    assert stats.binomtest(starts, 2000, 0.8).pvalue > 1e-3


def test_sample_depends_on_the_seed_only():
    source = MarkovSource.random()
    assert source.sample(100, seed=1) == source.sample(100, seed=1)
    assert source.sample(100, seed=1) != source.sample(100, seed=2)
    assert len(source.sample(1)) == 1


def test_entropy_rate_of_the_word_source():
    """A text of n words has n ln 8 nats, whatever its length."""
    source = WordSource()
    assert len(set(source.words)) == len(source.words) == 8
    text = source.sample(20_000)
    assert source.entropy_rate == pytest.approx(20_000 * math.log(8) / len(text), rel=0.01)
    assert set(text.split()) == set(source.words)
    shares = np.unique(text.split(), return_counts=True)[1] / 20_000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)
    assert WordSource(("a", "b")).entropy_rate == pytest.approx(math.log(2) / 2)
