"""Samples are measured one by one, whatever lines the text itself has."""

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
        vocabulary=tokenizer.to_json(),
        train=types.SimpleNamespace(tokens=tokens[:-600]),
        evaluations={"held_out": windows},
        headline="held_out",
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create()
    return folder


def test_samples_with_rules_of_their_own_stay_whole(data, folder):
    config = text_samples.SamplingConfig(prompt="\n")
    copied = [TEXT[7:207], TEXT[300:500]]
    folder.write_sample("final", Texts({"": copied}))
    drawn = text_samples.read(folder)
    assert drawn == copied
    figures = text_samples.measure(drawn, config, data)
    assert figures["sample_longest_copy"] == 200
    pieces = [TEXT[-600:-400], TEXT[-400:-200]]
    assert (
        figures["held_out_text_longest_copy"]
        == text_samples.sample_quality(pieces, TEXT[:-600])["longest_copy"]
    )


def test_samples_at_temperatures_with_headings_of_their_own_stay_whole(data, folder):
    config = tempered_samples.SamplingConfig(prompt="\n")
    heading = "\n===== temperature 1.0\n"
    drawn = Texts({"temperature 0.7": [TEXT[:150]], "temperature 1.2": [heading + TEXT[3:93]]})
    folder.write_sample("final", drawn)
    assert tempered_samples.read(folder) == drawn
    figures = tempered_samples.measure(drawn, config, data)
    assert figures["sample_longest_copy_at_0.7"] == 150
    assert figures["sample_longest_copy_at_1.2"] == 90
    assert "sample_longest_copy_at_1.0" not in figures


def test_samples_that_an_earlier_version_kept_as_one_text_are_read(folder):
    folder.write_sample("final", "one\n\n----------\ntwo")
    assert text_samples.read(folder) == ["one\n", "two"]
    kept = "===== temperature 0.7\none\n----------\ntwo\n===== temperature 1.0\nthree"
    folder.write_sample("final", kept)
    groups = {"temperature 0.7": ["one", "two"], "temperature 1.0": ["three"]}
    assert tempered_samples.read(folder) == Texts(groups)
    assert str(Texts(groups)) == kept


def test_draw_returns_as_many_texts_as_samples(data):
    tokens = np.asarray(CharTokenizer.from_json(data.vocabulary).encode("item\n----------\nking"))
    config = text_samples.SamplingConfig(num_samples=2)

    def generate(prompts, lengths, key, **options):
        return np.tile(tokens, (len(prompts), 1)), lengths

    assert (
        text_samples.draw(generate, config, data.vocabulary, None) == ["item\n----------\nking"] * 2
    )
