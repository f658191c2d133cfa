"""Token shards of others: parts by name, the tokenizer that made them, and what is refused."""

import errno
import os
import re

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import shards, token_files
from jaxlabs.data.token_files import find, open_tokens
from jaxlabs.data.tokenized_text import tokenize
from jaxlabs.data.tokenizers import ByteTokenizer

TOKENS = np.random.default_rng(0).integers(0, 256, 1000).astype("<u2")
LLM_C = np.array([20240520, 1, 300] + [0] * 253, "<i4").tobytes()


@pytest.fixture
def folder(tmp_path):
    """Shards with and without a header."""
    (tmp_path / "my_train_000.bin").write_bytes(TOKENS[:500].tobytes())
    (tmp_path / "my_train_001.bin").write_bytes(LLM_C + TOKENS[500:800].tobytes())
    (tmp_path / "my_val_000.bin").write_bytes(TOKENS[800:].tobytes())
    return tmp_path


def test_parts_are_those_of_the_names(folder):
    text = tokenize(find("mine", folder), "bytes", folder / "data")
    np.testing.assert_array_equal(text.train.tokens[:], TOKENS[:800])
    np.testing.assert_array_equal(text.held_out.tokens[:], TOKENS[800:])
    assert text.tokenizer == ByteTokenizer()
    assert (text.description["name"], text.description["source"]) == ("mine", str(folder))


@pytest.mark.parametrize("single", [True, False])
def test_last_tenth_is_held_out_without_a_held_out_shard(folder, single):
    (folder / "my_val_000.bin").unlink()
    path = folder / "my_train_000.bin" if single else folder
    found = open_tokens(find("mine", path), ByteTokenizer(), folder / "data")
    count = 500 if single else 800
    border = count * 9 // 10
    np.testing.assert_array_equal(found.train[:], TOKENS[:border])
    np.testing.assert_array_equal(found.held_out[:], TOKENS[border:count])


def test_shards_are_read_once_and_again_if_one_changes(folder, monkeypatch):
    first = open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")
    check, checks = token_files._check, []

    def counted(maps):
        checks.append(len(maps))
        return check(maps)

    monkeypatch.setattr(token_files, "_check", counted)
    again = open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")
    assert (again.sha256, checks) == (first.sha256, [])
    path = folder / "my_train_000.bin"
    path.write_bytes(TOKENS[1:501].tobytes())
    os.utime(path, (1, 1))
    changed = open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")
    assert changed.sha256 != first.sha256
    assert checks == [3]


def test_token_that_the_tokenizer_does_not_have_is_refused(folder):
    tokens = TOKENS[800:].copy()
    tokens[7] = 256
    (folder / "my_val_000.bin").write_bytes(tokens.tobytes())
    path = folder / "my_val_000.bin"
    line = f"^{re.escape(str(path))}: token 256, but the tokenizer has 256: the shard is of another"
    for _ in range(2):  # also from the kept result
        with pytest.raises(UserError, match=line):
            open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")


@pytest.mark.parametrize("value", ["char", "word", "bpe:300"])
def test_tokenizer_that_needs_a_text_is_refused(folder, value):
    with pytest.raises(UserError, match=f"^tokenizer: {value} needs a text, but .* of token shard"):
        tokenize(find("mine", folder), value, folder / "data")


def test_folder_without_a_training_shard_is_refused(folder):
    for path in folder.glob("*train*"):
        path.unlink()
    with pytest.raises(UserError, match=r"has my_val_000\.bin, but no \*train\*\.bin"):
        find("mine", folder)


@pytest.mark.parametrize("name", ["retrieval_train_0.bin", "val_constrained.bin"])
def test_shard_whose_name_has_both_parts_is_refused(folder, name):
    (folder / name).write_bytes(TOKENS.tobytes())
    with pytest.raises(UserError, match=rf"{name}: 'train' and 'val' are in its name; one of them"):
        find("mine", folder)


def test_shards_of_several_types_are_refused(folder):
    header = np.array([20240801, 7, 3] + [0] * 253, "<i4").tobytes()
    (folder / "my_val_000.bin").write_bytes(header + np.zeros(3, "<u4").tobytes())
    with pytest.raises(UserError, match=r"shards of several types \(.*my_val_000\.bin uint32\)"):
        open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")


def test_more_shards_than_files_may_be_open_are_refused_in_one_line(folder, monkeypatch):
    def too_many(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(shards, "open_shard", too_many)
    with pytest.raises(UserError, match=r"shards are more than the files that a process may open;"):
        open_tokens(find("mine", folder), ByteTokenizer(), folder / "data")


def test_folder_of_texts_has_no_shards(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert find("mine", tmp_path) is None
    assert find("mine", tmp_path / "a.txt") is None
