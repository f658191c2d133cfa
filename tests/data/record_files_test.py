"""Documents of array_record files: plain records, and examples of tensorflow-datasets."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import record_files, text_files, texts

array_record = pytest.importorskip("array_record.python.array_record_module")

TEXTS = ["a first text", "ein zweiter, mit ä\n", "third"]


def write(path, records):
    writer = array_record.ArrayRecordWriter(str(path), "group_size:2")
    for record in records:
        writer.write(record)
    writer.close()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file of three texts, which are read two at once."""
    monkeypatch.setattr(record_files, "AT_ONCE", 2)
    write(tmp_path / "texts.array_record", [text.encode() for text in TEXTS])
    return tmp_path / "texts.array_record"


def test_every_record_is_a_document(path):
    dataset = texts.load(str(path))
    assert dataset.text == "a first text\nein zweiter, mit ä\nthird\n"
    assert dataset.document_starts.tolist() == [0, 13, 32]
    assert not text_files.find(path).is_one_plain_file


def test_size_is_that_of_the_texts_in_bytes(tmp_path):
    path = tmp_path / "letters.array_record"
    write(path, ["ä".encode() * 5_000] * 30)
    assert path.stat().st_size < 200_000
    found = text_files.find(path)
    assert found.exceeds(299_999)
    assert not found.exceeds(300_000)


def test_data_set_of_tensorflow_datasets_has_its_training_texts_first(tmp_path, write_tfds):
    folder = tmp_path / "corpus" / "1.0.0"
    splits = {"test": ["fourth"], "train": TEXTS[:2], "validation": ["fifth"]}
    write_tfds(
        folder,
        {
            split: [{"article": text.encode(), "label": 1} for text in part]
            for split, part in splits.items()
        },
    )
    config = texts.TextFilesConfig(text_key="article")
    assert texts.load(str(folder), files=config).text == (
        "a first text\nein zweiter, mit ä\nfourth\nfifth\n"
    )
    with pytest.raises(UserError, match=r"text_key: no text below 'text' in .*; found 'article'"):
        texts.load(str(folder))


def test_damaged_files_and_texts_are_refused_with_one_line(path, tmp_path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"texts\.array_record: truncated") as caught:
        texts.load(str(path))
    assert "\n" not in str(caught.value)
    write(tmp_path / "latin.array_record", [b"ok", "ä".encode("latin1")])
    with pytest.raises(UserError, match=r"latin\.array_record, record 2: not UTF-8 \(byte 0xe4\)"):
        texts.load(str(tmp_path / "latin.array_record"))


def test_long_documents_are_in_shards_as_in_memory(path, tmp_path):
    config = texts.TextFilesConfig(memory_limit=0)
    large = texts.load(str(path), files=config)
    assert isinstance(large, texts.LargeText)
    pieces = "".join(piece.text for piece in large.files.pieces())
    assert pieces == texts.load(str(path)).text
    assert np.sum([piece.ends_document for piece in large.files.pieces()]) == 3
