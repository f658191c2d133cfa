"""Samples of language models: their prompts, and their metrics.

`sample_quality_test.py` has the metrics of given texts.
"""

import types

import numpy as np
import pytest

from jaxlabs.analysis import text_sampling
from jaxlabs.analysis.text_sampling import (
    SamplingConfig,
    TemperedSamplingConfig,
    WordSamplingConfig,
    measure,
    sample_quality,
    sample_texts,
)
from jaxlabs.config import ArgumentError
from jaxlabs.data import bpe
from jaxlabs.data.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer
from jaxlabs.run_folder.files import Texts

LINES = [f"item {word} of {number}" for number in range(40) for word in ("king", "queen")]
TEXT = "\n----------\n".join(LINES)
CHARACTERS = CharTokenizer.from_text(TEXT)
WORDS = WordTokenizer.from_lines(["We will keep our promise .", "They won't ."])


@pytest.fixture
def data():
    """A text with a rule between its lines, the last 600 characters held out."""
    tokens = CHARACTERS.encode(TEXT)
    windows = types.SimpleNamespace(arrays={"inputs": tokens[-600:].reshape(-1, 30)})
    return types.SimpleNamespace(
        data_spec=CHARACTERS.to_json(),
        train=types.SimpleNamespace(tokens=tokens[:-600]),
        eval_sets={"held_out": windows},
        monitor="held_out",
    )


def repeat(prompts, lengths, key, *, max_new_tokens, **options):
    """A model that repeats the last token of the prompt."""
    return np.pad(prompts, ((0, 0), (0, max_new_tokens)), mode="edge"), lengths


def test_samples_with_separators_are_measured_whole(data):
    samples = Texts({"": [TEXT[7:207], TEXT[300:500]]})
    metrics = measure(samples, SamplingConfig(prompt="\n"), data)
    assert metrics["sample_longest_copy"] == 200
    pieces = [TEXT[-600:-400], TEXT[-400:-200]]
    expected = sample_quality(pieces, TEXT[:-600])["longest_copy"]
    assert metrics["held_out_text_longest_copy"] == expected


def test_samples_at_temperatures_are_measured_apart(data):
    texts = Texts({"temperature 0.7": [TEXT[:150]], "temperature 1.2": ["\n\n" + TEXT[3:93]]})
    metrics = measure(texts, TemperedSamplingConfig(prompt="\n"), data)
    assert metrics["sample_longest_copy_at_0.7"] == 150
    assert metrics["sample_longest_copy_at_1.2"] == 90
    assert {name.partition("_at_")[2] for name in metrics} == {"", "0.7", "1.2"}


def test_sample_texts_returns_num_samples_texts():
    config = SamplingConfig(prompt="king", num_samples=2, max_new_tokens=3)
    assert sample_texts(repeat, config, CHARACTERS, None) == Texts({"": ["kingggg"] * 2})


@pytest.mark.parametrize(
    ("temperature", "headings"),
    [(None, ["temperature 0.7", "temperature 1.0", "temperature 1.2"]), (0.5, ["temperature 0.5"])],
)
def test_tempered_samples_have_a_heading_each(temperature, headings):
    config = TemperedSamplingConfig(temperature=temperature, max_new_tokens=1)
    assert list(sample_texts(repeat, config, CHARACTERS, None).groups) == headings


def test_default_prompt_of_a_word_model_is_hidden():
    options = {"num_samples": 1, "max_new_tokens": 2}
    samples = sample_texts(repeat, WordSamplingConfig(**options), WORDS, None)
    assert samples == Texts({"": [". ."]})
    given = sample_texts(repeat, WordSamplingConfig(prompt="They", **options), WORDS, None)
    assert given == Texts({"": ["They They They"]})


@pytest.mark.parametrize(
    ("alphabet", "prompt"), [("EMOR:\n", "ROMEO:"), ("\nab", "\n"), ("ab", "a")]
)
def test_default_prompt_of_a_character_model_is_known(alphabet, prompt):
    assert SamplingConfig().prompt_text(CharTokenizer("".join(sorted(alphabet)))) == prompt


def test_unknown_characters_of_a_prompt_are_named():
    with pytest.raises(ArgumentError, match=r"^prompt: unknown characters 'z'; the "):
        SamplingConfig(prompt="zip").encode_prompt(CharTokenizer.from_text("pip"))


def test_prompt_is_encoded_by_words():
    config = WordSamplingConfig(prompt="They will keep our promise")
    tokens = config.encode_prompt(WORDS)
    assert WORDS.vocab.labels(tokens) == ["They", "will", "keep", "our", "promise"]


def test_default_prompt_of_a_word_model_is_a_full_stop():
    assert WORDS.vocab.labels(WordSamplingConfig().encode_prompt(WORDS)) == ["."]
    silent = WordTokenizer(("one", "two"))
    assert silent.vocab.labels(WordSamplingConfig().encode_prompt(silent)) == ["one"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            "We keep Zorks, zorks and Zorks",
            "prompt: unknown words 'Zorks', ',', 'zorks', 'and'; words of the training text are"
            " accepted, of which there are 9",
        ),
        ("we will", "prompt: unknown words 'we'; "),
        (" \n", "prompt: ' \\n' is not accepted; one word or more"),
    ],
)
def test_unknown_words_of_a_prompt_are_named(prompt, message):
    with pytest.raises(ArgumentError) as error:
        WordSamplingConfig(prompt=prompt).encode_prompt(WORDS)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


BPE = bpe.BPETokenizer(bpe._train([TEXT], 280))


@pytest.mark.parametrize("tokenizer", [BPE, ByteTokenizer()], ids=["bpe", "bytes"])
def test_any_text_is_a_prompt_where_tokens_cover_all_bytes(tokenizer):
    for prompt in ("Ωλ 🦖\r\n\0", "\udcff", " "):
        config = SamplingConfig(prompt=prompt, num_samples=1, max_new_tokens=2)
        ((sample,),) = sample_texts(repeat, config, tokenizer, None).groups.values()
        assert sample.startswith(prompt.replace("\udcff", "\ufffd"))
    assert SamplingConfig().prompt_text(tokenizer) == "\n"


@pytest.mark.parametrize("tokenizer", [BPE, ByteTokenizer()], ids=["bpe", "bytes"])
def test_samples_hold_no_part_of_a_character(tokenizer):
    """The model repeats the last byte of the prompt, which is no character on its own."""
    config = SamplingConfig(prompt="é", num_samples=1, max_new_tokens=2)
    assert sample_texts(repeat, config, tokenizer, None) == Texts({"": ["é\ufffd\ufffd"]})

    def first_byte(prompts, lengths, key, *, max_new_tokens, **options):
        return np.concatenate([prompts, prompts[:, :1]], axis=1), lengths

    assert sample_texts(first_byte, config, tokenizer, None) == Texts({"": ["é"]})


@pytest.mark.parametrize("config", [SamplingConfig, WordSamplingConfig])
def test_default_prompt_suits_the_tokenizer(config):
    expected = {"characters": "\n", "words": ".", "bytes": "\n", "bpe": "\n"}
    for tokenizer in (CharTokenizer("\n."), WORDS, ByteTokenizer(), BPE):
        assert config().prompt_text(tokenizer) == expected[tokenizer.kind]
    romans = CharTokenizer.from_text("ROMEO:\n")
    assert config().prompt_text(romans) == ("ROMEO:" if config is SamplingConfig else "\n")


def test_default_prompt_of_sentences_is_hidden_for_every_tokenizer():
    for config, shown in ((WordSamplingConfig, ""), (SamplingConfig, "\n")):
        made = config(num_samples=1, max_new_tokens=2)
        assert sample_texts(repeat, made, BPE, None) == Texts({"": [shown + "\n\n"]})
    assert sample_texts(
        repeat, SamplingConfig(num_samples=1, max_new_tokens=2), WORDS, None
    ) == Texts({"": [". ."]})


def test_samples_of_other_tokens_are_measured_in_characters(data):
    tokens = BPE.encode(TEXT)
    windows = types.SimpleNamespace(arrays={"inputs": tokens[None, -300:]})
    bpe_data = types.SimpleNamespace(
        data_spec=BPE.to_json(),
        train=types.SimpleNamespace(tokens=BPE.encode(TEXT[:-600])),
        eval_sets={"held_out": windows},
        monitor="held_out",
    )
    samples = Texts({"": [TEXT[7:207], TEXT[300:500]]})
    found = measure(samples, SamplingConfig(prompt="\n"), bpe_data)
    expected = measure(samples, SamplingConfig(prompt="\n"), data)
    assert {name: found[name] for name in found if name.startswith("sample")} == {
        name: expected[name] for name in expected if name.startswith("sample")
    }


def test_samples_are_measured_against_a_bounded_part_of_the_text(data, monkeypatch):
    monkeypatch.setattr(text_sampling, "MAX_TRAINING_CHARACTERS", 50)
    metrics = measure(Texts({"": [TEXT[:200]]}), SamplingConfig(prompt="\n"), data)
    assert metrics["sample_longest_copy"] == 50
