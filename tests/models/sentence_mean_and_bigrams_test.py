"""The masked mean of vectors and the wide logits of the text classifier."""

import jax
import numpy as np

from jaxlabs.models.text_encoder import HashedBigramLogits, masked_mean


def test_masked_mean_is_over_valid_positions():
    vectors = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4)
    valid = np.array([[True, False, True]])
    np.testing.assert_allclose(masked_mean(vectors, valid)[0], (vectors[0, 0] + vectors[0, 2]) / 2)
    with_nans = np.where(valid[:, :, None], vectors, np.nan)
    np.testing.assert_array_equal(masked_mean(with_nans, valid), masked_mean(vectors, valid))


def test_wide_logits_are_those_of_unigrams_and_bigrams():
    module = HashedBigramLogits(buckets=1000, num_classes=3)
    table = np.zeros((1000, 3), np.float32)

    def rows(tokens):
        """The rows of the table that contribute, and their weights."""
        jacobian = jax.jacrev(lambda t: module.apply({"params": {"table": t}}, tokens)[0, 0])(table)
        return {int(row): float(jacobian[row, 0]) for row in np.flatnonzero(jacobian[:, 0])}

    abc, ab, bc, b = (rows(np.array([t], np.int32)) for t in ([2, 3, 4], [2, 3, 0], [3, 4, 0], [3]))
    # Three unigrams, two bigrams, and the bigram of padding and the first word.
    assert len(abc) == 6
    assert {round(weight**2, 5) for weight in abc.values()} == {round(1 / 3, 5)}
    assert len(ab) == 4
    assert set(b) <= set(bc)  # the unigram, and the bigram at the start of the sentence
    assert len(set(ab) & set(abc)) == 4
    assert len(set(bc) & set(abc)) == 3  # both unigrams and their bigram, not the one at the start
    assert rows(np.array([[0, 0]], np.int32)) == {}
