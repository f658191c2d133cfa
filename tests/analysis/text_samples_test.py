"""Stored samples are read back separately, whatever separators the text contains."""

import types

import numpy as np
import pytest

from jaxlabs.analysis import tempered_samples, text_samples
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.run_files import Texts
from jaxlabs.run_folder import RunFolder

LINES = [f"item {word} of {number}" for number in range(40) for word in ("king", "queen")]
TEXT = "\n----------\n".join(LINES)


@pytest.fixture
def data():
    """A text with a rule between its lines, the last 600 characters held out."""
    tokenizer = CharTokenizer.from_text(TEXT)
    tokens = tokenizer.encode(TEXT)
    windows = types.SimpleNamespace(arrays={"inputs": tokens[-600:].reshape(-1, 30)})
    return types.SimpleNamespace(
        data_spec=tokenizer.to_json(),
        train=types.SimpleNamespace(tokens=tokens[:-600]),
        eval_sets={"held_out": windows},
        monitor="held_out",
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    return folder


def test_samples_with_separators_are_read_back_whole(data, folder):
    config = text_samples.SamplingConfig(prompt="\n")
    copied = [TEXT[7:207], TEXT[300:500]]
    folder.write_sample("final", Texts({"": copied}))
    samples = text_samples.load_samples(folder)
    assert samples == copied
    metrics = text_samples.measure(samples, config, data)
    assert metrics["sample_longest_copy"] == 200
    pieces = [TEXT[-600:-400], TEXT[-400:-200]]
    assert (
        metrics["held_out_text_longest_copy"]
        == text_samples.sample_quality(pieces, TEXT[:-600])["longest_copy"]
    )


def test_samples_at_temperatures_with_headings_are_read_back_whole(data, folder):
    config = tempered_samples.SamplingConfig(prompt="\n")
    heading = "\n===== temperature 1.0\n"
    samples = Texts({"temperature 0.7": [TEXT[:150]], "temperature 1.2": [heading + TEXT[3:93]]})
    folder.write_sample("final", samples)
    assert tempered_samples.load_samples(folder) == samples
    metrics = tempered_samples.measure(samples, config, data)
    assert metrics["sample_longest_copy_at_0.7"] == 150
    assert metrics["sample_longest_copy_at_1.2"] == 90
    assert "sample_longest_copy_at_1.0" not in metrics


def test_samples_stored_as_one_text_by_first_version_are_read(folder):
    folder.write_sample("final", "one\n\n----------\ntwo")
    assert text_samples.load_samples(folder) == ["one\n", "two"]
    stored = "===== temperature 0.7\none\n----------\ntwo\n===== temperature 1.0\nthree"
    folder.write_sample("final", stored)
    groups = {"temperature 0.7": ["one", "two"], "temperature 1.0": ["three"]}
    assert tempered_samples.load_samples(folder) == Texts(groups)
    assert str(Texts(groups)) == stored


def test_sample_texts_returns_num_samples_texts(data):
    tokens = np.asarray(CharTokenizer.from_json(data.data_spec).encode("item\n----------\nking"))
    config = text_samples.SamplingConfig(num_samples=2)

    def generate(prompts, lengths, key, **options):
        return np.tile(tokens, (len(prompts), 1)), lengths

    assert (
        text_samples.sample_texts(generate, config, data.data_spec, None)
        == ["item\n----------\nking"] * 2
    )
