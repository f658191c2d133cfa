"""A text as data of a language model, in windows and in contiguous streams, for every tokenizer."""

import math

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import lm_data as lm_data_module
from jaxlabs.data import tokenizers
from jaxlabs.data.batches import ContiguousStreams
from jaxlabs.data.lm_data import bptt_data, lm_data, text_baselines
from jaxlabs.data.texts import TextDataset
from jaxlabs.data.tokenizers import ByteTokenizer, CharTokenizer
from jaxlabs.data.windows import split_text

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


PLAY = TextDataset.of("play", "the king of hearts isn't here;\nmy lord é\n" * 90, "repeated")


def counts(train, held_out, vocab_size):
    """Baselines whose loss is known: each held-out token costs a nat."""
    return {"uniform": math.log(vocab_size), "5-gram": 1.0}


def lm_data_of(tokenizer, data_dir, text=PLAY):
    return lm_data(text, 8, 0, counts, tokenizer=tokenizer, data_dir=data_dir)


@pytest.mark.parametrize(
    ("tokenizer", "unit"),
    [
        ("char", None),
        ("bytes", "nats per byte"),
        ("bpe:270", "nats per token"),
        ("word", "nats per word"),
    ],
)
def test_every_tokenizer_holds_out_the_same_text(tokenizer, unit, tmp_path):
    data = lm_data_of(tokenizer, tmp_path)
    encoder, (train, held_out) = tokenizers.load(data.data_spec), split_text(PLAY.text)
    np.testing.assert_array_equal(data.train.tokens, encoder.encode(train))
    arrays = data.eval_sets["held_out"].arrays
    scored = arrays["targets"][arrays["weights"] > 0]
    np.testing.assert_array_equal(scored, encoder.encode(held_out)[1:])
    assert data.train.tokens.max() < encoder.vocab_size
    assert data.loss_unit == unit
    if tokenizer != "word":
        assert encoder.decode(data.train.tokens) == train
        sizes = data.token_bytes[scored]
        assert sizes.sum() + data.token_bytes[encoder.encode(held_out)[0]] == len(held_out.encode())


def test_bits_per_byte_of_a_uniform_model_are_known_exactly(tmp_path):
    """Each token costs log2(vocabulary) bits; the bytes of the text are counted by hand."""
    data = lm_data_of("bpe:270", tmp_path)
    arrays = data.eval_sets["held_out"].arrays
    scored = arrays["targets"][arrays["weights"] > 0]
    encoder, held_out = tokenizers.load(data.data_spec), split_text(PLAY.text)[1]
    first = encoder.decode(encoder.encode(held_out)[:1])
    scored_bytes = len(held_out.removeprefix(first).encode())
    assert data.token_bytes[scored].sum() == scored_bytes
    nats = len(scored) * data.baselines()["uniform"]
    bits_per_byte = nats / math.log(2) / scored_bytes
    assert bits_per_byte == pytest.approx(len(scored) * math.log2(270) / scored_bytes, rel=1e-12)
    assert 2 < bits_per_byte < 8


def test_bpe_is_trained_on_the_training_part_alone(tmp_path):
    text = TextDataset.of("two", "aab " * 900 + "xyz " * 100, "repeated")
    merged = tokenizers.load(lm_data_of("bpe:259", tmp_path, text).data_spec).table[256:]
    assert set(b"".join(merged)) <= set(b"aab ")


def test_baselines_count_characters_and_are_given_per_token(tmp_path):
    characters = len(split_text(PLAY.text)[1])
    for tokenizer in ("bytes", "bpe:270"):
        data = lm_data_of(tokenizer, tmp_path)
        encoder = tokenizers.load(data.data_spec)
        tokens = len(encoder.encode(split_text(PLAY.text)[1]))
        expected = {
            "uniform": math.log(encoder.vocab_size),
            "character 5-gram": characters / tokens,
        }
        assert data.baselines() == pytest.approx(expected)
    assert lm_data_of("char", tmp_path).baselines()["5-gram"] == 1.0
    words = lm_data_of("word", tmp_path).baselines()
    assert words == pytest.approx({"uniform": math.log(2 + 11), "5-gram": 1.0})


def test_baselines_of_a_long_text_read_parts_of_it(monkeypatch):
    monkeypatch.setattr(lm_data_module, "MAX_DECODED", 200)
    tokens = ByteTokenizer().encode(PLAY.text)
    read = []

    def baselines(train, held_out, vocab_size):
        read.extend([len(train), len(held_out)])
        return {"5-gram of 2,000 tokens": 1.0}

    facts = {"entropy_rate": 0.5}
    found = text_baselines(baselines, ByteTokenizer(), tokens, tokens[:300], facts)
    assert max(read) <= 200
    assert found["character 5-gram of 2,000 characters"] == pytest.approx(read[1] / 200)
    assert found["entropy_rate"] == pytest.approx(0.5 * read[1] / 200)


def test_rare_words_are_unknown_and_a_text_without_others_is_refused(tmp_path):
    encoder = tokenizers.load(lm_data_of("word", tmp_path).data_spec)
    assert encoder.encode("king Lear").tolist() == [encoder.vocab.ids["king"], 1]
    text = TextDataset.of("list", "\n".join(f"word{number}" for number in range(900)), "made")
    with pytest.raises(UserError, match="tokenizer: word: no word occurs 2 times in the training"):
        lm_data_of("word", tmp_path, text)


def test_tokenizer_file_is_read_and_its_hash_stored(tmp_path):
    trained = lm_data_of("bpe:270", tmp_path)
    (path,) = (tmp_path / "tokenizers").glob("*.json")
    data = lm_data_of(str(path), None)
    assert data.data_spec == trained.data_spec
    hashes = {one.dataset["tokenizer_sha256"] for one in (data, trained)}
    assert hashes == {tokenizers.load(data.data_spec).sha256}
    assert "tokenizer_sha256" not in lm_data_of("char", None).dataset


def test_streams_of_tokens_hold_the_same_text(tmp_path):
    data = bptt_data(PLAY, 7, 4, 0, counts, tokenizer="bpe:270", data_dir=tmp_path)
    train = split_text(PLAY.text)[0]
    assert tokenizers.load(data.data_spec).decode(data.train.tokens) == train
    assert data.loss_unit == "nats per token"
