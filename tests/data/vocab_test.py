"""The vocabulary: special tokens first, decoding ends at padding or the end of a sequence."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.vocab import Vocab, pad

VOCAB = Vocab(("moon", "the"), special=("<pad>", "<sos>", "<eos>"))


def test_ids_of_words_follow_those_of_special_tokens():
    assert VOCAB.encode(["the", "moon"]) == [4, 3]
    assert VOCAB.names == ("<pad>", "<sos>", "<eos>", "moon", "the")
    assert VOCAB.size == 5


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([4, 3], ["the", "moon"]),
        ([4, 2, 3], ["the"]),
        ([3, 0, 0], ["moon"]),
        ([1, 4], ["<sos>", "the"]),
        ([2], []),
        ([], []),
    ],
)
def test_decoding_ends_at_padding_or_eos(ids, words):
    assert VOCAB.decode(ids) == words


def test_labels_name_special_tokens_too():
    assert VOCAB.labels([0, 2, 4]) == ["<pad>", "<eos>", "the"]
    with pytest.raises(ValueError, match=r"token 5 is not one of 0\.\.4"):
        VOCAB.labels([5])


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (None, [[0, 0, 0], [4, 0, 0], [3, 4, 3]]),
        (2, [[0, 0], [4, 0], [3, 4]]),
        (4, [[0, 0, 0, 0], [4, 0, 0, 0], [3, 4, 3, 0]]),
    ],
)
def test_rows_are_padded_or_truncated(length, expected):
    padded = pad([[], [4], [3, 4, 3]], length)
    assert padded.dtype == np.int32
    assert padded.tolist() == expected


def test_special_tokens_are_no_words():
    with pytest.raises(UserError, match="unknown words '<eos>'; the vocabulary is moon, the"):
        VOCAB.encode(["moon", "<eos>"])
