"""The toy sentences become tokens as the write-up has them."""

import numpy as np

from jaxlabs.analysis import mini_encoder
from jaxlabs.data.tokenizers import PADDING, UNKNOWN


def test_sentences_are_lower_cased_split_at_spaces_and_padded():
    tokens, vocabulary = mini_encoder.encode(("The cat sat  on", "a Cat"))
    assert vocabulary == ["<PAD>", "<GAP>", "a", "cat", "on", "sat", "the"]
    np.testing.assert_array_equal(tokens, [[6, 3, 5, 4], [2, 3, PADDING, PADDING]])
    assert vocabulary[UNKNOWN] == "<GAP>"


def test_there_are_ten_sentences_with_the_write_ups_first():
    assert mini_encoder.SENTENCES[0] == "the cat sat on the mat"
    assert len(set(mini_encoder.SENTENCES)) == 10
