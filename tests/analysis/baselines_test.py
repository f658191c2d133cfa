import collections
import math
import tracemalloc

import numpy as np
import pytest

from jaxlabs.analysis import baselines
from jaxlabs.analysis.baselines import ngram_baselines, ngram_probabilities

NAMES = ("unigram", "bigram", "5-gram")


def reference_kneser_ney(train, history, token, vocabulary, order):
    """P(token | history) by the recursive equation, with dictionaries."""

    def counts(n):
        grams = collections.Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1))
        if n == order:
            return grams
        higher = {tuple(train[i : i + n + 1]) for i in range(len(train) - n)}
        return collections.Counter(gram[1:] for gram in higher)

    probability = 1 / vocabulary
    for n in range(1, min(order, len(history) + 1) + 1):
        c = counts(n)
        context = tuple(history[len(history) - n + 1 :])
        followers = {gram: count for gram, count in c.items() if gram[:-1] == context}
        if followers:
            once, twice = (sum(count == k for count in c.values()) for k in (1, 2))
            discount = once / (once + 2 * twice) if once else 0.5
            own = max(followers.get((*context, token), 0) - discount, 0)
            rest = discount * len(followers) * probability
            probability = (own + rest) / sum(followers.values())
    return probability


def markov(rng, matrix, length):
    tokens = [0]
    for u in rng.random(length - 1):
        tokens.append(int(np.searchsorted(np.cumsum(matrix[tokens[-1]]), u)))
    return np.asarray(tokens)


def test_unigram_and_bigram_of_tiny_text_equal_hand_computed_values():
    # Train "aab" over {a, b, c}: counts a 2, b 1, so n1 = n2 = 1 and D = 1/3. Two followers.
    train, held_out = np.asarray([0, 0, 1]), np.asarray([0, 2])
    unigram = ngram_probabilities(train, held_out, 3, 1)
    spared = (1 / 3) * 2 / 3
    np.testing.assert_allclose(unigram, [(2 - 1 / 3) / 3 + spared / 3, spared / 3])
    # Bigrams aa and ab once each: D = 1, all mass backs off. a and b have one continuation each:
    # D = 1 again, and the uniform distribution remains.
    np.testing.assert_allclose(ngram_probabilities(train, held_out, 3, 2), [1 / 3, 1 / 3])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_equal_reference_implementation(order):
    rng = np.random.default_rng(0)
    train = rng.choice(4, size=200, p=[0.6, 0.3, 0.05, 0.05])
    held_out = rng.choice(5, size=60)  # token 4 never occurs in training
    expected = [reference_kneser_ney(train, held_out[:i], held_out[i], 5, order) for i in range(60)]
    np.testing.assert_allclose(ngram_probabilities(train, held_out, 5, order), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_sum_to_one_for_any_context(order):
    rng = np.random.default_rng(1)
    train = rng.choice(6, size=300, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    for _ in range(30):
        context = rng.choice(7, size=rng.integers(0, 6))
        total = sum(
            ngram_probabilities(train, np.append(context, token), 7, order)[-1]
            for token in range(7)
        )
        assert total == pytest.approx(1, abs=1e-12)


def test_bigram_loss_of_markov_source_approaches_entropy_rate():
    rng = np.random.default_rng(2)
    matrix = rng.dirichlet(np.full(8, 0.5), size=8)
    stationary = np.linalg.matrix_power(matrix, 200)[0]
    rate = -(stationary[:, None] * matrix * np.log(np.maximum(matrix, 1e-300))).sum()
    tokens = markov(rng, matrix, 120_000)
    losses = ngram_baselines(tokens[:100_000], tokens[100_000:], 8)
    assert losses["uniform"] == math.log(8)
    assert losses["unigram"] > 1.1 * rate
    assert losses["bigram"] == pytest.approx(rate, rel=0.01)
    assert losses["5-gram"] == pytest.approx(rate, rel=0.05)


def test_large_vocabulary_does_not_overflow():
    vocabulary = 2**20  # its fifth power would need 100 bits
    train = np.random.default_rng(3).integers(vocabulary - 9, vocabulary, size=2000)
    small = ngram_probabilities(train - (vocabulary - 9), train[:50] - (vocabulary - 9), 9, 5)
    large = ngram_probabilities(train.astype(np.int32), train[:50].astype(np.int32), vocabulary, 5)
    # Only the uniform distribution at the end of the recursion differs.
    np.testing.assert_allclose(large, small, rtol=0.07)


@pytest.mark.real_data
def test_tiny_shakespeare_has_golden_losses(data_dir):
    path = data_dir / "tiny_shakespeare.txt"
    if not path.exists():
        pytest.skip(f"needs real data: {path} is missing")
    characters = np.frombuffer(path.read_bytes(), np.uint8)
    alphabet, tokens = np.unique(characters, return_inverse=True)
    split = int(0.9 * len(tokens))
    losses = ngram_baselines(tokens[:split], tokens[split:], len(alphabet))
    # Golden values of this smoothing; a plain Witten-Bell 5-gram reaches 1.669 on this split.
    assert losses["unigram"] == pytest.approx(3.3473, abs=1e-3)
    assert losses["bigram"] == pytest.approx(2.4844, abs=1e-3)
    assert losses["5-gram"] == pytest.approx(1.5789, abs=1e-3)


def test_memory_is_bounded_whatever_the_length(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TRAIN_TOKENS", 40_000)
    monkeypatch.setattr(baselines, "MAX_HELD_OUT_TOKENS", 10_000)

    class Text:
        """10**9 tokens, made when they are read."""

        def __len__(self):
            return 10**9

        def __getitem__(self, part):
            assert part.stop - part.start <= 400
            return np.random.default_rng(part.start).integers(0, 50, part.stop - part.start)

    tracemalloc.start()
    try:
        losses = ngram_baselines(Text(), Text(), 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120 * 50_000
    assert list(losses) == ["uniform", *(f"{n} of 40,000 tokens" for n in NAMES)]
    assert losses["unigram of 40,000 tokens"] == pytest.approx(math.log(50), rel=1e-2)


def test_sample_of_a_long_text_is_spread_over_it():
    text = np.arange(1_000_003)
    sample = baselines._sample(text, 1000)
    assert (len(sample), sample[0], sample[-1]) == (1000, 0, 1_000_002)
    starts = sample[::10]
    assert np.ptp(np.diff(starts)) <= 1
    np.testing.assert_array_equal(baselines._sample(text[:1000], 1000), text[:1000])


def test_ranks_by_table_and_by_sorting_are_equal():
    values = np.random.default_rng(0).integers(0, 300, 1000)
    by_table, by_sorting = baselines._ranks(values), baselines._ranks(values + 10**6)
    np.testing.assert_array_equal(by_table, np.unique(values, return_inverse=True)[1])
    np.testing.assert_array_equal(by_sorting, by_table)
