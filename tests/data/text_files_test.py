"""Files read as one stream of documents: order, compression, JSON lines, and what is refused."""

import gzip
import json
import os
import re

import pytest

from jaxlabs.config import UserError
from jaxlabs.data import text_files
from jaxlabs.data.text_files import find

TEXT = "Zażółć\r\ngęślą\rjaźń \0 😀👩‍🚀 e\u0301\nthe end"
DOCUMENTS = ["one\n", TEXT, "three 3", ""]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Characters are split over blocks."""
    monkeypatch.setattr(text_files, "BLOCK", 5)
    monkeypatch.setattr(text_files, "PACKED_BLOCK", 7)


def packed(data, suffix):
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".zst":
        zstandard = pytest.importorskip("zstandard")
        half = len(data) // 2  # two frames, as parallel compression writes them
        return b"".join(zstandard.ZstdCompressor().compress(p) for p in (data[:half], data[half:]))
    return data


def json_lines(documents, key="text"):
    return "".join(json.dumps({"id": 1, key: text}) + "\n" for text in documents).encode()


def documents_of(files):
    found, text = [], ""
    for piece in files.pieces():
        text += piece.text
        if piece.ends_document:
            found.append(text)
            text = ""
    assert not text
    return found


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_plain_file_is_one_document_that_is_read_unchanged(tmp_path, suffix):
    path = tmp_path / f"book.txt{suffix}"
    path.write_bytes(packed(b"\xef\xbb\xbf" + TEXT.encode(), suffix))
    assert documents_of(find(path)) == [TEXT]


def test_byte_order_mark_in_two_blocks_is_no_text(tmp_path):
    path = tmp_path / "book.txt.gz"
    path.write_bytes(packed(b"\xef\xbb", ".gz") + packed(b"\xbf" + TEXT.encode(), ".gz"))
    assert documents_of(find(path)) == [TEXT]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_line_of_json_is_a_document_that_ends_with_a_newline(tmp_path, name, suffix):
    path = tmp_path / (name + suffix)
    path.write_bytes(packed(b"\xef\xbb\xbf\n" + json_lines(DOCUMENTS, "content")[:-1], suffix))
    assert documents_of(find(path, "content")) == ["one\n", TEXT + "\n", "three 3\n"]


def test_files_of_a_folder_are_read_by_name_without_hidden_and_empty_ones(tmp_path):
    (tmp_path / "b" / ".git").mkdir(parents=True)
    (tmp_path / "b" / ".git" / "config").write_text("hidden")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / "c.txt").write_text("last")
    (tmp_path / "b" / "x.jsonl").write_bytes(json_lines(["two", "three"]))
    (tmp_path / "a.md.gz").write_bytes(gzip.compress(b"first\n"))
    (tmp_path / "empty.txt").touch()
    assert documents_of(find(tmp_path)) == ["first\n", "two\n", "three\n", "last\n"]


def test_lone_surrogate_in_json_becomes_the_replacement_character(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"text": "a \ud83d b \ud83d\ude00"}')
    assert documents_of(find(path)) == ["a \ufffd b 😀\n"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_size_is_compared_with_the_uncompressed_bytes(tmp_path, suffix):
    path = tmp_path / f"book.txt{suffix}"
    path.write_bytes(packed(b"a" * 1000, suffix))
    assert find(path).exceeds(999)
    assert not find(path).exceeds(1000)


LINE = b'{"text": "fine"}\n'


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"ab\nc\n\xc3\xa4\xff", ", line 3: not UTF-8 (byte 0xff at offset 7); save it"),
        ("a.txt", b"\xef\xbb\xbfab\n\xc3", ", line 2: not UTF-8 (byte 0xc3 at offset 6); save it"),
        ("a.jsonl", LINE + b'{"text": "\xff"}', ", line 2: not UTF-8 (byte 0xff); a JSON object"),
        ("a.jsonl", LINE + b"\n{'a'}", ", line 3: not JSON (Expecting property name enclosed"),
        ("a.jsonl", LINE + b'{"text": "a\tb"}', ", line 2: not JSON (Invalid control character at"),
        ("a.jsonl", LINE + b'{"text": "cut', ", line 2: not JSON (Unterminated string starting"),
        ("a.jsonl", b"[" * 5000, ", line 1: not JSON ("),
        ("a.jsonl", LINE * 2 + b'["text"]', ", line 3: a list; a JSON object with the text below"),
        ("a.jsonl", LINE + b'{"text": null}', ", line 2: null below 'text'; a string is needed"),
        ("a.txt.gz", b"not gzip", ", line 1: cannot be read (Not a gzipped file"),
        ("a.txt.zst", b"not zstandard", ", line 1: cannot be read (zstd decompressor error: "),
    ],
)
def test_damaged_file_gives_one_line_with_file_and_line(tmp_path, name, content, complaint):
    if name.endswith(".zst"):
        pytest.importorskip("zstandard")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path}{complaint}")) as caught:
        documents_of(find(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncated_file_is_refused_with_the_line_where_it_ends(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(packed(b"".join(b"line %d\n" % i for i in range(100_000)), suffix)[:-3])
    complaint = r", line ([\d,]+): cannot be read \(.* end(ed)? before the end"
    with pytest.raises(UserError, match=complaint) as caught:
        documents_of(find(path))
    line = re.search(complaint, str(caught.value)).group(1)
    assert 80_000 < int(line.replace(",", "")) <= 100_001


def test_missing_key_names_the_flag_and_the_keys(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + json_lines(["x"], "content"))
    line = f"text_key: 'text' is not in {path}, line 2; its keys are 'id', 'content'"
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        documents_of(find(path))


def test_line_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE + json_lines(["x" * 100]))
    with pytest.raises(UserError, match=r"line 2: longer than 100 bytes; a document per line"):
        documents_of(find(path))


def test_folder_without_text_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match=r": the folder has no text; a UTF-8 text file is needed"):
        find(tmp_path)


def test_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_FILES", 2)
    for name in ("a", "b", ".hidden"):
        (tmp_path / name).write_text("text")
    assert len(find(tmp_path).files) == 2
    (tmp_path / "c").write_text("text")
    with pytest.raises(UserError, match=r": more than 2 files; join them, as JSON lines"):
        find(tmp_path)


def test_folder_with_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: not a file but a FIFO; a UTF-8 text file"):
        find(tmp_path)


def test_zstandard_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "a.txt.zst"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.txt\.zst: zstandard is not installed; pip install"):
        documents_of(find(path))
