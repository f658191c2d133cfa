"""Texts encoded once into token shards, which later runs open within a second.

The shards of one text and one tokenizer are in a folder of their own, see
`jaxlabs.data.prepared_folder`. A text is split by characters, as a text in memory: the first 90 %
are `train`, the rest `held_out`; a memory map and an array in memory give the same tokens, but
for a document that has to be cut, see `jaxlabs.data.text_blocks`.

A preparation reads the text twice: to count and to hash it, and to encode it. It takes constant
memory. After an interruption it continues behind the last whole shard.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tqdm

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import prepared_folder, shards, text_blocks, text_files, tokenizers
from jaxlabs.data.prepared_folder import atomic_write, byte_progress, once, write_json
from jaxlabs.data.shards import ShardedTokens
from jaxlabs.data.text_blocks import PARTS, Block
from jaxlabs.data.text_files import TextFiles
from jaxlabs.data.text_tokenizer import text_tokenizer
from jaxlabs.data.tokenizers import Tokenizer

VERSION = 1
"""Version of the folder; another one is prepared again."""

INDEX, TOKENIZER = "index.json", "tokenizer.json"

SHARD_BYTES = 2**26
"""Bytes of text in a shard, what an interruption can cost."""

MAX_SHARDS, MAX_SHARD_BYTES = 256, 2**31 - 2**28
"""Shards of a very large text are longer, since each is an open file; a header counts tokens in
int32, and the last batch of a shard may be beyond this."""


class TextOfFiles(NamedTuple):
    """A text that is read as a stream, see `text_tokenizer.SplitText`."""

    files: TextFiles
    scan: "Scan"

    def alphabet(self) -> str:
        return self.scan.alphabet

    def length(self) -> int:
        return self.scan.border

    def lines(self) -> Iterator[str]:
        return text_blocks.lines(text_blocks.until(self.files.pieces(), self.scan.border))

    def slices(self, parts: Sequence[slice]) -> Iterator[str]:
        return text_blocks.slices(self.files.pieces(), parts)


class Scan(NamedTuple):
    """What the first reading of a text counts."""

    characters: int
    bytes: int  #: of its UTF-8
    documents: int
    alphabet: str  #: the distinct characters, in ascending order
    sha256: str  #: of its UTF-8

    @property
    def border(self) -> int:
        """The first held-out character, as of `windows.split_text`."""
        return int(0.9 * self.characters)


@dataclasses.dataclass(frozen=True)
class PreparedText:
    """A text in token shards.

    Attributes:
      tokenizer: its tokenizer.
      train: tokens of the first 90 % of the characters.
      held_out: tokens of the rest.
      index: the content of index.json.
      folder: folder of the shards.
    """

    tokenizer: Tokenizer
    train: ShardedTokens
    held_out: ShardedTokens
    index: dict[str, Any]
    folder: Path

    def document_starts(self, part: str) -> np.ndarray:
        """Returns the index of the first token of each document `[documents]`, int64, ascending.

        Args:
          part: "train" or "held_out"; each begins with a document, or the rest of one.

        Raises:
          UserError: a file is missing or damaged.
        """
        found, first = [np.zeros(0, np.int64)], 0
        for shard in self.index["parts"][part]:
            path = shards.documents_path(self.folder / shard["file"])
            try:
                found.append(first + np.load(path).astype(np.int64))
            except (OSError, ValueError, EOFError) as error:
                reason = getattr(error, "strerror", None) or error
                again = f"delete {self.folder} to encode the text again"
                raise UserError(f"{path}: cannot be read ({reason}); {again}") from None
            first += shard["tokens"]
        return np.concatenate(found)


def prepare(files: TextFiles, tokenizer: str, data_dir: str | Path | None = None) -> PreparedText:
    """Encodes a text into shards, or opens them if that is done.

    Args:
      files: the text.
      tokenizer: the value of `--tokenizer`.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.

    Raises:
      UserError: a file of the text is unreadable; the folder cannot be written; a shard is damaged
        or belongs to another text.
    """
    folder = prepared_folder.folder(
        files.root, files.files, data_dir, VERSION, files.text_key, _tokenizer_key(tokenizer)
    )
    with prepared_folder.usable(folder):
        if not (folder / INDEX).exists():
            with prepared_folder.locked(folder):
                if not (folder / INDEX).exists():
                    _build(files, tokenizer, folder, data_dir)
        return open_prepared(folder)


def _tokenizer_key(value: str) -> str:
    """Returns a value of `--tokenizer`, or the hash of the file that it names."""
    if (path := tokenizers.parse(value).path) is None:
        return value
    content = paths.read_bytes(paths.local(path, "tokenizer"), "a tokenizer file is needed")
    return hashlib.sha256(content).hexdigest()


def _build(files: TextFiles, value: str, folder: Path, data_dir: str | Path | None) -> None:
    """Does what is missing of a preparation: the scan, the tokenizer, the shards, the index."""

    def make_tokenizer() -> dict[str, Any]:
        return text_tokenizer(value, TextOfFiles(files, scan), data_dir).to_json()

    scan = Scan(**once(folder / "scan.json", lambda: _scan(files)._asdict()))
    tokenizer = tokenizers.load(once(folder / TOKENIZER, make_tokenizer))
    _encode(files, scan, tokenizer, folder)
    parts = {part: [_described(path) for path in _finished(folder, part)] for part in PARTS}
    for part, described in parts.items():
        if not sum(one["tokens"] for one in described):
            raise UserError(f"{files.root}: its part {part} has no token; a longer text is needed")
    index = {
        "version": VERSION,
        "source": str(files.root.absolute()),
        "tokenizer": tokenizer.sha256,
        "dtype": tokenizer.dtype.name,
        "byte_order": "little",
        **scan._asdict(),
        "parts": parts,
    }
    write_json(folder / INDEX, index)


def _scan(files: TextFiles) -> Scan:
    characters, size, documents = 0, 0, 0
    digest, seen = hashlib.sha256(), np.zeros(0x110000, bool)
    with byte_progress(f"reading {files.root.name}", None) as bar:
        for text, ends in files.pieces():
            data = text.encode()
            digest.update(data)
            if len(data) == len(text):  # ASCII
                seen[np.frombuffer(data, np.uint8)] = True
            else:
                seen[np.frombuffer(text.encode("utf-32-le"), "<u4")] = True
            characters, size, documents = characters + len(text), size + len(data), documents + ends
            bar.update(len(data))
    if not characters:
        raise UserError(f"{files.root}: has no text; {text_files.NEEDED}")
    alphabet = "".join(map(chr, np.flatnonzero(seen).tolist()))
    return Scan(characters, size, documents, alphabet, digest.hexdigest())


def _encode(files: TextFiles, scan: Scan, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the shards that are missing."""
    done = {part: [shards.read_header(path) for path in _finished(folder, part)] for part in PARTS}
    headers = [header for part in PARTS for header in done[part]]
    first = sum(int(header["characters"]) for header in headers)
    segments = text_blocks.segments(files.pieces(), scan.border, first)
    limit = min(max(SHARD_BYTES, scan.bytes // MAX_SHARDS), MAX_SHARD_BYTES)
    with byte_progress(f"encoding {files.root.name}", scan.bytes) as bar:
        bar.update(sum(int(header["bytes"]) for header in headers))
        for part, found in itertools.groupby(segments, lambda segment: segment.part):
            batches = text_blocks.batches(found, tokenizer)
            for number in itertools.count(len(done[part])):
                path = folder / f"{part}-{number:05}.bin"
                if not _write_shard(path, batches, tokenizer, limit, bar):
                    break


def _write_shard(
    path: Path, batches: Iterator[list[Block]], tokenizer: Tokenizer, limit: int, bar: tqdm.tqdm
) -> bool:
    """Writes a shard of at least `limit` bytes of text; returns whether there was any text left."""
    batch, starts, length = next(batches, None), [], 0
    if batch is None:
        return False
    fields = {"characters": 0, "bytes": 0, "documents": 0, "tokenizer": tokenizer.sha256}
    with shards.writer(path, tokenizer.dtype, fields) as file:
        while batch is not None:
            encoded = tokenizer.encode_batch([block.text for block in batch])
            for block, tokens in zip(batch, encoded, strict=True):
                if block.starts:
                    starts.append(length)
                length += len(tokens)
                file.write(tokens.astype(tokenizer.dtype.newbyteorder("<"), copy=False).data)
            size = sum(len(block.text.encode()) for block in batch)
            fields["characters"] += sum(len(block.text) for block in batch)
            fields["bytes"] += size
            bar.update(size)
            batch = next(batches, None) if fields["bytes"] < limit else None
        fields["documents"] = len(starts)
        with atomic_write(shards.documents_path(path)) as documents:
            np.save(documents, np.array(starts, np.uint32))
    return True


def _finished(folder: Path, part: str) -> list[Path]:
    """Returns the shards of a part, in order."""
    return sorted(folder.glob(f"{part}-*.bin"))


def _described(path: Path) -> dict[str, Any]:
    """Returns what index.json holds of a shard."""
    header, stat = shards.read_header(path), path.stat()
    counts = {name: int(header[name]) for name in ("tokens", "bytes", "documents")}
    return {"file": path.name, **counts, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_prepared(folder: Path) -> PreparedText:
    """Opens the shards of a folder; those that are changed since they were written are refused.

    A shard with the size and the modification time of the index is not read.

    Raises:
      UserError: the index or a shard is damaged, or belongs to another text or tokenizer.
    """
    again = f"delete {folder} to encode the text again"
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        tokenizer = tokenizers.load(json.loads((folder / TOKENIZER).read_text(encoding="utf-8")))
        found = {"version": index["version"], "byte_order": index["byte_order"]}
        if found != (expected := {"version": VERSION, "byte_order": "little"}):
            raise UserError(f"{folder / INDEX}: {found}, expected {expected}; {again}")
        if index["tokenizer"] != tokenizer.sha256:
            raise UserError(f"{folder / TOKENIZER}: not the tokenizer of the shards; {again}")
        parts = {
            part: [_open_shard(folder / one["file"], one, tokenizer, again) for one in described]
            for part, described in index["parts"].items()
        }
        train, held_out = (ShardedTokens(parts[part]) for part in PARTS)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder / INDEX}: damaged ({reason}); {again}") from None
    return PreparedText(tokenizer, train, held_out, index, folder)


def _open_shard(
    path: Path, described: dict[str, Any], tokenizer: Tokenizer, again: str
) -> np.ndarray:
    """Returns the tokens of a shard; raises UserError unless it is as the index describes it."""
    try:
        header, tokens = shards.read_header(path), shards.open_shard(path)
    except UserError as error:
        raise UserError(f"{error}; {again}") from None
    if header is None or header["tokenizer"].decode() != tokenizer.sha256:
        raise UserError(f"{path}: a shard of another tokenizer; {again}")
    changed = path.stat().st_mtime_ns != described["mtime_ns"]
    if changed and _sha256(path) != described["sha256"]:
        raise UserError(f"{path}: changed since it was written, its sha256 differs; {again}")
    return tokens
