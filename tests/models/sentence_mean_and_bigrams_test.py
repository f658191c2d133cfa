"""What the head of the classifier is told of a sentence: the mean of its vectors, and votes."""

import jax
import numpy as np

from jaxlabs.models.text_encoder import HashedBigramLogits, masked_mean


def test_masked_mean_is_over_valid_positions():
    vectors = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4)
    real = np.array([[True, False, True]])
    np.testing.assert_allclose(masked_mean(vectors, real)[0], (vectors[0, 0] + vectors[0, 2]) / 2)
    poisoned = np.where(real[:, :, None], vectors, np.nan)
    np.testing.assert_array_equal(masked_mean(poisoned, real), masked_mean(vectors, real))


def test_wide_logits_are_those_of_unigrams_and_bigrams():
    votes = HashedBigramLogits(buckets=1000, classes=3)
    table = np.zeros((1000, 3), np.float32)

    def rows(tokens):
        """The rows whose vote counts, and how often."""
        moved = jax.jacrev(lambda t: votes.apply({"params": {"table": t}}, tokens)[0, 0])(table)
        return {int(row): float(moved[row, 0]) for row in np.flatnonzero(moved[:, 0])}

    abc, ab, bc, b = (rows(np.array([t], np.int32)) for t in ([2, 3, 4], [2, 3, 0], [3, 4, 0], [3]))
    # Three words, two pairs of them, and the pair of nothing and the first word.
    assert len(abc) == 6
    assert {round(vote**2, 5) for vote in abc.values()} == {round(1 / 3, 5)}
    assert len(ab) == 4
    assert set(b) <= set(bc)  # the word, and the pair that begins the sentence
    assert len(set(ab) & set(abc)) == 4
    assert len(set(bc) & set(abc)) == 3  # both words and their pair, not the beginning
    assert rows(np.array([[0, 0]], np.int32)) == {}
