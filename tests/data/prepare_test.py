"""Texts in shards: the tokens of a text in memory, interruptions, and damaged or foreign shards."""

import gzip
import json
import os
import re

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import prepare as prepare_module
from jaxlabs.data import prepared_folder, shards, text_blocks, text_files, tokenizers
from jaxlabs.data.prepare import prepare
from jaxlabs.data.text_files import find
from jaxlabs.data.text_tokenizer import TextInMemory, text_tokenizer
from jaxlabs.data.windows import split_text

WORDS = ["the", "king", "and", "queen", "of", "all", "men", "come", "to", "war", ",", "'tis", "me"]
RANDOM = np.random.default_rng(0)
LINES = [" ".join(RANDOM.choice(WORDS, 7)) + "\r\n é 😀  \n" for _ in range(200)]
DOCUMENTS = ["".join(part) for part in np.split(LINES, np.cumsum(RANDOM.integers(1, 9, 40)))]
DOCUMENTS = [text for text in DOCUMENTS if text]
TOKENIZERS = ["char", "bytes", "word", "bpe:300"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several blocks in a batch, batches in a shard, shards in a text."""
    monkeypatch.setattr(text_files, "BLOCK", 100)
    monkeypatch.setattr(text_blocks, "BLOCK", 150)
    monkeypatch.setattr(text_blocks, "BATCH", 400)
    monkeypatch.setattr(prepare_module, "SHARD_BYTES", 1000)


@pytest.fixture(scope="module", params=["file", "gz", "folder"])
def source(request, tmp_path_factory):
    """A file, or a folder of many documents."""
    folder = tmp_path_factory.mktemp("text")
    if request.param == "folder":
        lines = [json.dumps({"text": text}) for text in DOCUMENTS]
        (folder / "a.jsonl").write_text("\n".join(lines[:20]))
        (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[20:]).encode()))
        return folder
    path = folder / "book.txt"
    data = "".join(DOCUMENTS).encode()
    if request.param == "file":
        path.write_bytes(data)
        return path
    path = folder / "book.txt.gz"
    path.write_bytes(gzip.compress(data))
    return path


def in_memory(source, value, data_dir):
    """Returns the tokens of both parts and the starts of their documents, from one string."""
    documents = DOCUMENTS if source.is_dir() else ["".join(DOCUMENTS)]
    parts = split_text("".join(documents))
    tokenizer, found, end = text_tokenizer(value, TextInMemory(*parts), data_dir), [], 0
    pieces = [[], []]
    for text in documents:
        cut = min(max(len(parts[0]) - end, 0), len(text))
        for piece, part in ((text[:cut], pieces[0]), (text[cut:], pieces[1])):
            if piece:
                part.append(tokenizer.encode(piece))
        end += len(text)
    for part in pieces:
        starts = np.cumsum([0, *map(len, part)])[:-1]
        found.append((np.concatenate(part), starts))
    return tokenizer, found


@pytest.mark.parametrize("value", TOKENIZERS)
def test_tokens_are_those_of_the_text_in_memory(source, value, tmp_path):
    tokenizer, expected = in_memory(source, value, tmp_path)
    text = prepare(find(source), value, tmp_path)
    assert text.tokenizer == tokenizer
    for part, (tokens, starts) in zip(("train", "held_out"), expected, strict=True):
        found = getattr(text, part)
        assert found.dtype == tokenizer.dtype
        np.testing.assert_array_equal(found[:], tokens)
        np.testing.assert_array_equal(text.document_starts(part), starts)
    assert len(text.train.shards) > 3
    whole = "".join(DOCUMENTS)
    assert text.index["characters"] == len(whole)
    assert text.index["bytes"] == len(whole.encode())
    assert sum(shard["bytes"] for shard in text.index["parts"]["held_out"]) == len(
        split_text(whole)[1].encode()
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


@pytest.mark.parametrize("kill_at", [1, 2, 7, 11])
def test_interrupted_preparation_continues_behind_the_last_whole_shard(
    source, tmp_path, monkeypatch, kill_at
):
    whole, encoded = prepare(find(source), "bpe:300", tmp_path / "whole"), []
    encode = tokenizers.load(whole.tokenizer.to_json()).encode_batch

    def killed(self, texts):
        encoded.append(sum(map(len, texts)))
        if len(encoded) == kill_at:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(type(whole.tokenizer), "encode_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(find(source), "bpe:300", tmp_path / "again")
    again = prepare(find(source), "bpe:300", tmp_path / "again")
    assert contents(again.folder) == contents(whole.folder)
    assert sum(encoded) <= whole.index["characters"] + 2000  # a shard is encoded twice


def test_prepared_text_is_opened_without_reading_it(tmp_path, monkeypatch):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))
    first = prepare(find(path), "char", tmp_path)

    def read(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(text_files, "_read", read)
    monkeypatch.setattr(prepare_module, "_sha256", read)
    again = prepare(find(path), "char", tmp_path)
    np.testing.assert_array_equal(again.train[:], first.train[:])


@pytest.mark.parametrize("change", ["content", "time", "key", "tokenizer", "name"])
def test_other_text_or_tokenizer_is_prepared_again(tmp_path, change):
    path, key, value = tmp_path / "book.txt", "text", "char"
    path.write_text("".join(DOCUMENTS))
    first = prepare(find(path), "char", tmp_path)
    if change == "content":
        path.write_text("".join(DOCUMENTS) + "more")
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "key":
        key = "content"
    elif change == "tokenizer":
        value = "bytes"
    else:
        path = path.rename(tmp_path / "novel.txt")
    assert prepare(find(path, key), value, tmp_path).folder != first.folder


def truncated(folder):
    path = folder / "train-00001.bin"
    path.write_bytes(path.read_bytes()[:-1])
    return "train-00001.bin: truncated: "


def of_another_tokenizer(folder):
    path = folder / "train-00001.bin"
    data = path.read_bytes()
    with shards.writer(path, np.dtype(np.uint8), {"tokenizer": "f" * 64}) as file:
        file.write(data[1024:])
    return "train-00001.bin: a shard of another tokenizer; "


def with_another_tokenizer(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizers.ByteTokenizer().to_json()))
    return "tokenizer.json: not the tokenizer of the shards; "


def of_another_byte_order(folder):
    path = folder / "held_out-00000.bin"
    data = path.read_bytes()
    path.write_bytes(np.frombuffer(data[:1024], "<i4").byteswap().tobytes() + data[1024:])
    return "held_out-00000.bin: its numbers are big-endian; little-endian ones are accepted; "


def with_an_index_of_another_byte_order(folder):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"byte_order": "big"}))
    return "index.json: {'version': 1, 'byte_order': 'big'}, expected "


def changed(folder):
    path = folder / "train-00001.bin"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return "train-00001.bin: changed since it was written, its sha256 differs; "


def missing(folder):
    (folder / "train-00001.bin").unlink()
    return "train-00001.bin: cannot be read (No such file or directory); "


def damaged_index(folder):
    (folder / "index.json").write_text("{}")
    return "index.json: damaged (KeyError: 'version'); "


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        of_another_tokenizer,
        with_another_tokenizer,
        of_another_byte_order,
        with_an_index_of_another_byte_order,
        changed,
        missing,
        damaged_index,
    ],
)
def test_damaged_or_foreign_shard_gives_one_line_that_says_what_to_do(tmp_path, damage):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))
    folder = prepare(find(path), "char", tmp_path).folder
    complaint = re.escape(f"{folder}/{damage(folder)}")
    line = rf"^{complaint}.*delete {re.escape(str(folder))} to encode the text again$"
    with pytest.raises(UserError, match=line) as caught:
        prepare(find(path), "char", tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_documents_give_one_line_that_says_what_to_do(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))
    text = prepare(find(path), "char", tmp_path)
    (text.folder / "train-00000.documents.npy").unlink()
    line = r"train-00000\.documents\.npy: cannot be read \(No such file .*\); delete "
    with pytest.raises(UserError, match=line):
        text.document_starts("train")


def test_copied_shards_are_accepted(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))
    text = prepare(find(path), "char", tmp_path)
    os.utime(text.folder / "train-00000.bin", (1, 1))
    np.testing.assert_array_equal(prepare(find(path), "char", tmp_path).train[:], text.train[:])


def test_second_process_waits_for_the_first(tmp_path, capsys, monkeypatch):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))
    acquire, tries = prepared_folder.filelock.FileLock.acquire, []

    def busy(self, *arguments, **options):
        tries.append(options)
        if len(tries) == 1:
            raise prepared_folder.filelock.Timeout("lock")
        return acquire(self, *arguments, **options)

    monkeypatch.setattr(prepared_folder.filelock.FileLock, "acquire", busy)
    folder = prepare(find(path), "char", tmp_path).folder
    line = f"{folder}: waiting for another process, which prepares it\n"
    assert line in capsys.readouterr().err


def test_full_disk_names_the_folder(tmp_path, monkeypatch):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared_folder.os, "fsync", full)
    with pytest.raises(UserError, match=r"^data_dir: .* cannot be used \(No space left on device"):
        prepare(find(path), "char", tmp_path)


def test_text_without_a_split_point_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "MAX_UNSPLIT", 300)
    path = tmp_path / "book.txt"
    path.write_text("a" * 5000)
    text = prepare(find(path), "bpe:300", tmp_path)
    assert text.tokenizer.decode(text.train[:]) == "a" * 4500
    assert text.tokenizer.decode(text.held_out[:]) == "a" * 500


@pytest.mark.parametrize(
    ("text", "value", "part"),
    [("a", "char", "train"), ("word word word word\n" + " \n" * 40, "word", "held_out")],
)
def test_part_without_a_token_is_refused_and_leaves_no_index(tmp_path, text, value, part):
    path = tmp_path / "book.txt"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"book\.txt: its part {part} has no token; a longer"):
            prepare(find(path), value, tmp_path)
    assert not [*tmp_path.rglob("index.json")]


def test_file_without_text_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}')
    with pytest.raises(UserError, match=r"a\.jsonl: has no text; a UTF-8 text file is needed"):
        prepare(find(tmp_path / "a.jsonl"), "char", tmp_path)
