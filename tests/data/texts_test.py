"""Text data sets: search order, fallback and warnings."""

import dataclasses
import gzip
import hashlib
import shutil
import sys
import types

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import sources, texts
from jaxlabs.data.texts import TINY_SHAKESPEARE, TextFilesConfig, load
from jaxlabs.data.token_files import TokenFiles

pytestmark = pytest.mark.usefixtures("offline")

TEXT = "First Citizen:\nSpeak, speak.\n"
SMALL = dataclasses.replace(TINY_SHAKESPEARE, sha256=hashlib.sha256(TEXT.encode()).hexdigest())
ACCEPTED = "tiny_shakespeare, python_reference, markov, toy_words or the path to a UTF-8 text file"
ACCEPTED += ", or a folder of them"


@pytest.fixture
def small(monkeypatch):
    """Replaces the published text by two lines."""
    monkeypatch.setattr(texts, "TINY_SHAKESPEARE", SMALL)


def forbid(monkeypatch, name: str) -> None:
    def called(*_, **__):
        raise AssertionError(f"{name} was called although an earlier source has the text")

    monkeypatch.setattr(sources, name, called)


def test_raw_file_is_first(small, monkeypatch, tmp_path):
    path = tmp_path / "tiny_shakespeare.txt"
    path.write_text(TEXT)
    forbid(monkeypatch, "find_tfds")
    forbid(monkeypatch, "download")
    found = load("tiny_shakespeare", tmp_path)
    assert (found.name, found.text, found.source) == ("tiny_shakespeare", TEXT, str(path))
    assert (found.sha256, found.warning, found.comparable) == (SMALL.sha256, None, True)


def test_tfds_is_second_and_its_splits_are_concatenated(small, monkeypatch, tmp_path, write_tfds):
    parts = {"train": TEXT[:20], "validation": TEXT[20:25], "test": TEXT[25:]}
    folder = tmp_path / "tfds/tiny_shakespeare/1.0.0"
    write_tfds(folder, {split: [{"text": text.encode()}] for split, text in parts.items()})
    forbid(monkeypatch, "download")
    found = load("tiny_shakespeare", tmp_path)
    assert (found.text, found.sha256, found.comparable) == (TEXT, SMALL.sha256, True)
    assert found.source == str(folder)


def test_download_is_third_and_cached(small, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sources, "download", lambda url, sha256, path: path.write_bytes(TEXT.encode())
    )
    found = load("tiny_shakespeare", tmp_path)
    assert (found.text, found.warning, found.comparable) == (TEXT, None, True)
    forbid(monkeypatch, "download")
    assert load("tiny_shakespeare", tmp_path) == found


def test_fallback_is_last_and_warns_in_one_line(tmp_path):
    found = load("tiny_shakespeare", tmp_path / "data")
    assert found.warning == (
        f"tiny_shakespeare is neither in {tmp_path / 'data'} nor prepared by tensorflow-datasets, "
        "and the host could not be reached: training on python_reference "
        "(the help texts of this Python, pydoc_data.topics) instead, "
        "whose metrics are not comparable with published results"
    )
    assert dataclasses.replace(found, warning=None) == load("python_reference")
    assert found.name == "python_reference"
    assert not found.comparable
    assert not (tmp_path / "data").exists()


def test_no_network_without_downloads(monkeypatch, tmp_path):
    forbid(monkeypatch, "download")
    warning = load("tiny_shakespeare", tmp_path, download=False).warning
    assert "and downloads are switched off: training on python_reference" in warning


def test_data_folder_defaults_to_the_environment_variable(small, monkeypatch, tmp_path):
    (tmp_path / "tiny_shakespeare.txt").write_text(TEXT)
    monkeypatch.setenv("JAXLABS_DATA_DIR", str(tmp_path))
    assert load("tiny_shakespeare").comparable


def test_tilde_is_expanded_in_both_paths(small, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "tiny_shakespeare.txt").write_text(TEXT)
    assert load("tiny_shakespeare", "~").comparable
    assert load("~/tiny_shakespeare.txt").text == TEXT


def test_named_file_with_other_content_is_an_error(tmp_path):
    path = tmp_path / "tiny_shakespeare.txt"
    path.write_text(TEXT)
    with pytest.raises(UserError) as caught:
        load("tiny_shakespeare", tmp_path)
    assert str(caught.value) == (
        f"{path}: not the published tiny_shakespeare (its sha256 is {SMALL.sha256[:12]}..., "
        "86c4e6aa9db7... is accepted); remove it, or pass your own text by its path"
    )


def test_file_by_path_is_unicode_and_not_comparable(tmp_path):
    path = tmp_path / "książka.txt"
    path.write_text("Litwo! Ojczyzno moja! 東京\n", encoding="utf-8")
    found = load(str(path))
    assert found.text == "Litwo! Ojczyzno moja! 東京\n"
    assert (found.name, found.source) == (str(path), str(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.comparable, found.warning, found.facts) == (False, None, {})


TEXTS = {"a.txt": "one\r\ntwo", "b.jsonl": '{"text": "three"}\n{"text": "four\\n"}\n'}


@pytest.fixture
def folder(tmp_path):
    for name, text in TEXTS.items():
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def test_folder_is_one_text_of_its_documents(folder):
    found = load(str(folder))
    assert found.text == "one\r\ntwo\nthree\nfour\n"
    assert found.document_starts.tolist() == [0, 9, 15]
    assert (found.name, found.source) == (str(folder), str(folder))
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()


def test_compressed_text_is_the_text(folder):
    (folder / "a.txt.gz").write_bytes(gzip.compress(TEXTS["a.txt"].encode()))
    packed, plain = (load(str(folder / name)) for name in ("a.txt.gz", "a.txt"))
    assert (packed.text, packed.sha256) == (plain.text, plain.sha256)
    assert packed.document_starts is plain.document_starts is None


def test_text_above_the_memory_limit_is_not_read(folder, monkeypatch):
    size = sum(len(text.encode()) for text in TEXTS.values())
    assert isinstance(
        load(str(folder), files=TextFilesConfig(memory_limit=size)), texts.TextDataset
    )
    found = load(str(folder), files=TextFilesConfig(memory_limit=size - 1, text_key="content"))
    assert isinstance(found, texts.LargeText)
    assert (found.name, found.files.text_key) == (str(folder), "content")
    monkeypatch.setattr(texts, "MAX_IN_MEMORY", size - 1)
    assert isinstance(load(str(folder)), texts.LargeText)


def test_memory_limit_is_a_quarter_of_a_small_memory(monkeypatch):
    assert TextFilesConfig().max_in_memory == texts.MAX_IN_MEMORY
    monkeypatch.setattr(
        texts.psutil, "virtual_memory", lambda: types.SimpleNamespace(total=40_000_000)
    )
    assert TextFilesConfig().max_in_memory == 10_000_000
    assert TextFilesConfig(memory_limit=0).max_in_memory == 0


def test_token_shards_are_found_by_their_names(tmp_path):
    for name in ("train_2.bin", "train_1.bin", "val.bin"):
        (tmp_path / name).write_bytes(b"\0\0")
    found = load(str(tmp_path))
    assert isinstance(found, TokenFiles)
    assert [path.name for path in found.train] == ["train_1.bin", "train_2.bin"]
    assert [path.name for path in found.held_out] == ["val.bin"]
    assert load(str(tmp_path / "val.bin")).train == (tmp_path / "val.bin",)


@pytest.mark.parametrize("content", ["", '{"text": ""}\n'])
def test_files_without_text_are_refused(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match="has no text; a UTF-8 text file is needed"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "tiny_shakespear",
            f"no data set or file 'tiny_shakespear'; accepted are {ACCEPTED}; "
            "did you mean 'tiny_shakespeare'?",
        ),
        ("no/book.txt", f"no data set or file 'no/book.txt'; accepted are {ACCEPTED}"),
        ("", f"no data set or file ''; accepted are {ACCEPTED}"),
        ("x" * 300, f"no data set or file '{'x' * 300}'; accepted are {ACCEPTED}"),
    ],
)
def test_unknown_name_is_an_error(name, complaint):
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value) == f"dataset: {complaint}"


def test_empty_file_is_an_error(tmp_path):
    path = tmp_path / "book.txt"
    path.touch()
    with pytest.raises(UserError, match=r"book\.txt: the file is empty"):
        load(str(path))


def test_python_reference_is_the_sorted_help_texts():
    from pydoc_data.topics import topics

    found = load("python_reference")
    assert len(found.text) > 400_000
    assert found.text.startswith(topics[min(topics)])
    assert all(topic in found.text for topic in topics.values())
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()
    assert (found.comparable, found.warning) == (False, None)


def test_markov_has_a_fixed_hash_and_entropy_rate():
    found = load("markov")
    assert len(found.text) == 500_000
    # Hash of `load("markov")`: the text must not depend on the machine.
    assert found.sha256.startswith("0042356502c22494")
    assert found.facts == {"entropy_rate": pytest.approx(2.3442063, abs=1e-7)}
    shares = np.bincount(np.frombuffer(found.text.encode(), np.uint8))[ord("a") :] / 500_000
    # The difference to the unigram entropy is the mutual information of consecutive letters.
    assert -(shares * np.log(shares)).sum() - found.facts["entropy_rate"] > 0.5


@pytest.mark.real_data
def test_published_text_has_the_published_statistics(data_dir):
    found = load("tiny_shakespeare", data_dir)
    assert (len(found.text), len(set(found.text))) == (1_115_394, 65)
    assert found.text.startswith("First Citizen:\nBefore we proceed any further")
    assert found.comparable


@pytest.mark.real_data
def test_tfds_text_equals_the_raw_text_without_tensorflow(data_dir, tmp_path):
    if not (data_dir / "tfds" / "tiny_shakespeare").is_dir():
        pytest.skip("needs real data: no tfds/tiny_shakespeare in JAXLABS_DATA_DIR")
    (tmp_path / "tfds").symlink_to(data_dir / "tfds")
    prepared = load("tiny_shakespeare", tmp_path)
    assert prepared.text == load("tiny_shakespeare", data_dir).text
    assert prepared.source == str(tmp_path / "tfds/tiny_shakespeare/1.0.0")
    assert "tensorflow" not in sys.modules


@pytest.mark.real_data
def test_damaged_tfds_text_is_an_error(data_dir, tmp_path):
    if not (data_dir / "tfds" / "tiny_shakespeare").is_dir():
        pytest.skip("needs real data: no tfds/tiny_shakespeare in JAXLABS_DATA_DIR")
    folder = tmp_path / "tfds/tiny_shakespeare/1.0.0"
    folder.mkdir(parents=True)
    for whole in (data_dir / "tfds/tiny_shakespeare/1.0.0").iterdir():
        shutil.copyfile(whole, folder / whole.name)
    record = next(folder.glob("*-train.array_record-*"))
    record.write_bytes(record.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"^[^\n]*/tiny_shakespeare/1\.0\.0: [^\n]*$"):
        load("tiny_shakespeare", tmp_path)
