"""Files that together are one text, read as a stream of documents in bounded memory.

A plain file is one document. In a file of JSON lines (`.jsonl`, `.ndjson`, `.json`) every line is
an object with a document below a key. Either may be compressed (`.gz`, `.zst`). A record of an
array_record file is a document, see `jaxlabs.data.record_files`. The files of a folder are read in
the order of their names, without hidden ones. A single plain file is read unchanged; elsewhere a
document ends with a newline, which is added where it is missing.
"""

import codecs
import dataclasses
import gzip
import importlib.util
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import record_files
from jaxlabs.data.tokenizers import well_formed

JSON_LINES = (".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".zst")

BLOCK = 2**20
"""Bytes that are read and decoded at once."""

PACKED_BLOCK = 2**14
"""Bytes that zstandard unpacks at once; it packs text at most a few thousand times."""

MAX_LINE = 2**26
"""Maximum length of a JSON line in bytes, since it is parsed as a whole."""

MAX_FILES = 20_000
"""Maximum number of files of a folder, of which each run reads the sizes."""

NEEDED = (
    "a UTF-8 text file is needed: plain or JSON lines (.jsonl), also with .gz or .zst, or"
    " array_record"
)


class Piece(NamedTuple):
    """A part of a document."""

    text: str
    ends_document: bool  #: whether the document ends here


@dataclasses.dataclass(frozen=True)
class TextFiles:
    """Files that together are one text.

    Attributes:
      root: the file, or the folder.
      files: the files in the order of reading.
      text_key: key of the text in a line of JSON.
    """

    root: Path
    files: tuple[Path, ...]
    text_key: str = "text"

    @property
    def is_one_plain_file(self) -> bool:
        has_documents = _is_json(self.root) or record_files.is_record_file(self.root)
        return self.files == (self.root,) and not has_documents

    def pieces(self) -> Iterator[Piece]:
        """Yields the text in parts of about a million characters; empty documents are left out.

        A lone surrogate in JSON, which UTF-8 cannot hold, becomes U+FFFD.

        Raises:
          UserError: a file cannot be read, is damaged, not UTF-8 or not JSON lines; it names the
            file and the line.
        """
        for path in self.files:
            last = ""  # character of the document
            for text, ends in _read(path, self.text_key):
                last = text[-1:] or last
                if not ends:
                    yield Piece(text, ends_document=False)
                elif last:
                    newline = "" if last == "\n" or self.is_one_plain_file else "\n"
                    yield Piece(text + newline, ends_document=True)
                    last = ""

    def size(self) -> int:
        """Returns the size of the files in bytes, compressed where they are."""
        return sum(path.stat().st_size for path in self.files)

    def exceeds(self, limit: int) -> bool:
        """Returns whether the files have more than `limit` bytes, uncompressed.

        Raises:
          UserError: a compressed file cannot be read.
        """
        total = self.size()
        for path in self.files:
            if total > limit:
                break
            total -= path.stat().st_size
            for size in _unpacked_sizes(path, self.text_key):
                total += size
                if total > limit:
                    break
        return total > limit


def find(root: Path, text_key: str = "text") -> TextFiles:
    """Returns the text of a file, or of all files in a folder and its sub-folders.

    Raises:
      UserError: the folder has no text, too many files, or one that is no regular file.
    """
    if not root.is_dir():
        paths.require_file(root, NEEDED)
        return TextFiles(root, (root,), text_key)
    found = []
    for path in root.rglob("*"):
        if not path.is_dir() and not _is_hidden(path, root):
            found.append(path)
        if len(found) > MAX_FILES:
            raise UserError(f"{root}: more than {MAX_FILES:,} files; join them, as JSON lines")
    files = sorted(found, key=lambda path: path.relative_to(root).as_posix())
    if (root / record_files.TFDS_INFO).exists():
        files = record_files.of_tfds(files)
    for path in files:
        paths.require_file(path, NEEDED)
    if not any(path.stat().st_size for path in files):
        raise UserError(f"{root}: the folder has no text; {NEEDED}")
    return TextFiles(root, tuple(files), text_key)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_json(path: Path) -> bool:
    inner = path.with_suffix("") if path.suffix in COMPRESSED else path
    return inner.suffix in JSON_LINES


def _unpacked_sizes(path: Path, text_key: str) -> Iterator[int]:
    """Yields the bytes of parts of a file, uncompressed."""
    if record_files.is_record_file(path):
        return (len(text.encode()) for text in record_files.texts(path, text_key))
    if path.suffix in COMPRESSED:
        return (len(block) for block in _blocks(path))
    return iter([path.stat().st_size])


def _read(path: Path, text_key: str) -> Iterator[tuple[str, bool]]:
    """Yields the parts of all documents of a file, and whether a document ends with each."""
    if record_files.is_record_file(path):
        for text in record_files.texts(path, text_key):
            yield text, True
    elif _is_json(path):
        for number, line in _lines(path):
            yield _text_of_line(line, f"{path}, line {number:,}", text_key), True
    else:
        for text in _decoded(path):
            yield text, False
        yield "", True


def _text_of_line(line: bytes, location: str, text_key: str) -> str:
    """Returns the text of a line of JSON; raises UserError, which names the `location`."""
    needed = f"a JSON object with the text below {text_key!r} is needed"
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{location}: not UTF-8 (byte 0x{line[error.start]:02x}); {needed}"
        ) from None
    except json.JSONDecodeError as error:
        column = f"{error.msg} at column {error.colno:,}"
        raise UserError(f"{location}: not JSON ({column}); {needed}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number too long
        raise UserError(f"{location}: not JSON ({type(error).__name__}); {needed}") from None
    if not isinstance(record, dict):
        raise UserError(f"{location}: {_json_type(record)}; {needed}")
    if text_key not in record:
        keys = ", ".join(map(repr, list(record)[:10])) or "none"
        raise ArgumentError("text_key", f"{text_key!r} is not in {location}; its keys are {keys}")
    if not isinstance(record[text_key], str):
        found = _json_type(record[text_key])
        raise UserError(f"{location}: {found} below {text_key!r}; a string is needed")
    return well_formed(record[text_key])


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the number of each line that is not blank, from 1, and its bytes."""
    number, rest = 0, b""
    for block in _blocks(path):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield number, line
        if len(rest) > MAX_LINE:
            found = f"longer than {MAX_LINE:,} bytes"
            raise UserError(f"{path}, line {number + 1:,}: {found}; a document per line is needed")
    if rest.strip():
        yield number + 1, rest if number else rest.removeprefix(codecs.BOM_UTF8)


def _decoded(path: Path) -> Iterator[str]:
    """Yields the parts of a plain file, without a byte-order mark at its start."""
    decoder, offset, lines = codecs.getincrementaldecoder("utf-8")(), 0, 0
    begun = False
    for block in itertools.chain(_blocks(path), [b""]):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = lines + before.count(b"\n") + 1
            # The object begins with the start of a character from the block before.
            position = offset + len(block) - len(error.object) + error.start
            found = f"byte 0x{error.object[error.start]:02x} at offset {position:,}"
            message = f"{path}, line {line:,}: not UTF-8 ({found}); save it as UTF-8 text"
            raise UserError(message) from None
        yield text if begun else text.removeprefix("\ufeff")
        begun = begun or bool(text)
        offset, lines = offset + len(block), lines + block.count(b"\n")


def _blocks(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file, uncompressed; no block is empty."""
    read = {".gz": _gzip, ".zst": _zstandard}.get(path.suffix, _plain)
    paths.require_file(path, NEEDED)
    lines = 0
    try:
        for block in read(path):
            if block:
                yield block
                lines += block.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        location = f"{path}, line {lines + 1:,}"
        raise UserError(f"{location}: cannot be read ({reason}); {NEEDED}") from None


def _plain(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def _gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        while block := file.read1(BLOCK):  # `read` drops what precedes the end of a cut file
            yield block


def _zstandard(path: Path) -> Iterator[bytes]:
    """Yields the bytes of all frames; raises EOFError if the last one is incomplete."""
    if importlib.util.find_spec("zstandard") is None:
        raise UserError(f"{path}: zstandard is not installed; pip install 'jaxlabs[text]'")
    import zstandard

    frame = None
    with open(path, "rb") as file:
        while packed := file.read(PACKED_BLOCK):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(packed)
                except zstandard.ZstdError as error:
                    raise OSError(str(error)) from None
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the compressed data end before the end of a frame")
