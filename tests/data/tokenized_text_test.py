"""A text in shards gives the data of the text in memory: batches, evaluation sets, metadata."""

import json

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import prepare, texts, tokenizers
from jaxlabs.data.batches import batch_at, on_host
from jaxlabs.data.lm_data import bptt_data, lm_data
from jaxlabs.data.texts import TextFilesConfig
from jaxlabs.data.tokenized_text import tokenize

WORDS = np.random.default_rng(0).choice(["the", "king", "and", "é😀", "queen", "\n "], (30, 40))
DOCUMENTS = [" ".join(words) + "\n" for words in WORDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same documents as a file of JSON lines, and their text as a plain file."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [json.dumps({"content": text}) for text in DOCUMENTS]
    (folder / "documents.jsonl").write_text("\n".join(lines))
    (folder / "book.txt").write_text("".join(DOCUMENTS))
    return folder


@pytest.fixture(autouse=True)
def several_shards(monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_BYTES", 1000)


def both_ways(path):
    """Returns the text in memory, and as one that is too large for it."""
    configs = [TextFilesConfig(text_key="content", memory_limit=limit) for limit in (None, 0)]
    return [texts.load(str(path), files=config) for config in configs]


def ignoring(*arguments):
    """Baselines that are not computed."""
    return {}


def require_same_data(ours, theirs, batch_size):
    """Asserts that data on the host equal data on the devices."""
    assert on_host(ours.train)
    assert not on_host(theirs.train)
    for step in (0, 1, 50):
        batch = jax.device_get(batch_at(theirs.train, np.uint32(3), step, batch_size))
        chex.assert_trees_all_equal(ours.train.batch_at(3, step, batch_size), batch)
    for sets in ("eval_sets", "final_eval_sets"):
        found, expected = (
            {name: one.arrays for name, one in (sets() if callable(sets) else sets).items()}
            for sets in (getattr(ours, sets), getattr(theirs, sets))
        )
        assert list(found) == list(expected)
        chex.assert_trees_all_equal(found, expected)
    for name in ("dataset", "data_spec", "loss_unit", "text_tokens", "warning"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.token_bytes, theirs.token_bytes)


@pytest.mark.parametrize(
    ("name", "value", "documents"),
    [
        ("documents.jsonl", "bpe:300", "separate"),
        ("documents.jsonl", "char", "joined"),
        ("book.txt", "bpe:300", "joined"),
    ],
)
def test_windows_of_shards_are_those_of_the_text_in_memory(
    folder, tmp_path, name, value, documents
):
    theirs, ours = (
        lm_data(one, 16, 3, ignoring, tokenizer=value, data_dir=tmp_path, documents=documents)
        for one in both_ways(folder / name)
    )
    require_same_data(ours, theirs, 4)


def test_documents_that_are_joined_are_not_read(folder, tmp_path, monkeypatch):
    large = both_ways(folder / "documents.jsonl")[1]
    monkeypatch.setattr(prepare.PreparedText, "document_starts", lambda *_: pytest.fail("read"))
    assert lm_data(large, 16, 3, ignoring, data_dir=tmp_path).train.document_starts is None


def test_streams_of_shards_are_those_of_the_text_in_memory(folder, tmp_path):
    theirs, ours = (
        bptt_data(one, 16, 4, 3, ignoring, data_dir=tmp_path)
        for one in both_ways(folder / "book.txt")
    )
    require_same_data(ours, theirs, 4)


def test_documents_of_a_folder_are_the_text_of_its_files(folder, tmp_path):
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(DOCUMENTS):
        (tmp_path / "texts" / f"{number:02}.txt").write_text(text.removesuffix("\n"))
    for one in (*both_ways(tmp_path / "texts"), *both_ways(folder / "documents.jsonl")):
        text = tokenize(one, "char", tmp_path)
        assert text.description["documents"] == len(DOCUMENTS)
        assert text.description["characters"] == len("".join(DOCUMENTS))
        starts = np.append(text.train.documents, len(text.train.tokens) + text.held_out.documents)
        expected = np.cumsum([0, *map(len, DOCUMENTS[:-1])])
        border = len(text.train.tokens)  # the document there is one in each part
        assert starts.tolist() == sorted({*expected.tolist(), border})
        assert text.tokenizer.decode(text.both[:]) == "".join(DOCUMENTS)


def test_baselines_read_shards(folder, tmp_path):
    def recorded(train, held_out, vocab_size):
        return {"train": float(len(train)), "held_out": float(len(held_out))}

    theirs, ours = (
        lm_data(one, 16, 3, recorded, tokenizer="bytes", data_dir=tmp_path).baselines()
        for one in both_ways(folder / "book.txt")
    )
    assert ours == theirs


def test_text_too_short_for_a_window_names_the_setting(folder, tmp_path):
    for one in both_ways(folder / "book.txt"):
        with pytest.raises(UserError, match=r"^`context_length`=5000: the text "):
            lm_data(one, 5000, 0, ignoring, data_dir=tmp_path)


def test_tokenizer_file_keys_the_shards_by_its_content(folder, tmp_path):
    large = both_ways(folder / "book.txt")[1]
    first = tokenize(large, "bpe:300", tmp_path)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(first.tokenizer.content)
    again = [tokenize(large, str(tmp_path / name), tmp_path) for name in ("a.json", "b.json")]
    assert tokenizers.load(first.tokenizer.to_json()) == again[0].tokenizer
    np.testing.assert_array_equal(again[1].train.tokens[:], first.train.tokens[:])
    assert len(list((tmp_path / "prepared").iterdir())) == 2  # of bpe:300, and of the file
