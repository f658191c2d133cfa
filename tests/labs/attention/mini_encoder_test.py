"""Tokenization of the sentences of the mini encoder."""

import numpy as np

from jaxlabs.data.tokenizers import UNKNOWN
from jaxlabs.data.vocab import PADDING
from jaxlabs.labs.attention import mini_encoder


def test_sentences_are_lower_cased_split_at_spaces_and_padded():
    tokens, vocabulary = mini_encoder.encode(("The cat sat  on", "a Cat"))
    assert vocabulary == ["<PAD>", "<MASK>", "a", "cat", "on", "sat", "the"]
    np.testing.assert_array_equal(tokens, [[6, 3, 5, 4], [2, 3, PADDING, PADDING]])
    assert vocabulary[UNKNOWN] == "<MASK>"


def test_sentences_are_ten_and_start_with_that_of_write_up():
    assert mini_encoder.SENTENCES[0] == "the cat sat on the mat"
    assert len(set(mini_encoder.SENTENCES)) == 10
