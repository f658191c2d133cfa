"""Data of truncated BPTT: contiguous streams cover the text."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.batches import ContiguousStreams
from jaxlabs.data.lm_data import bptt_data
from jaxlabs.data.texts import TextDataset
from jaxlabs.data.tokenizers import CharTokenizer

LETTERS = np.random.default_rng(0).choice(list("abcdefg"), 3000)
TEXT = TextDataset.of("letters", "".join(LETTERS), "sampled")


def data_of(context_length, batch_size=4):
    return bptt_data(TEXT, context_length, batch_size, 0, lambda *arguments: {})


@pytest.mark.parametrize("context_length", [2, 7, 100, 299])
def test_held_out_text_is_scored_once_in_long_segments(context_length):
    data = data_of(context_length, batch_size=2)
    assert data.monitor == "held_out"
    held_out = CharTokenizer.from_json(data.data_spec).encode(TEXT.text[2700:])
    for name in ("held_out", "held_out_windows"):
        arrays = data.eval_sets[name].arrays
        scored = arrays["targets"][arrays["weights"] > 0]
        np.testing.assert_array_equal(scored, held_out[1:])
    rows, time = data.eval_sets["held_out"].arrays["inputs"].shape
    assert rows <= 64
    assert time >= context_length  # the state is carried at least as long as in the windows


def test_training_streams_hold_the_first_nine_tenths():
    data = data_of(7)
    assert isinstance(data.train, ContiguousStreams)
    assert (len(data.train.tokens), data.train.context_length) == (2700, 7)


def test_text_too_short_for_the_streams_is_an_error():
    with pytest.raises(UserError, match="`batch_size`=400: the training text has 2,700 tokens"):
        data_of(7, batch_size=400)
