"""Token shards: files of tokens, memory-mapped as one sequence.

A shard is a header of 1,024 bytes and the tokens, little-endian: the `.bin` format of llm.c, whose
shards of uint16 and uint32 are read and written. Fields that llm.c leaves unused hold the hash of
the tokenizer and the part of the text. nanoGPT's `.bin` has no header, and tokens of uint16.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data.prepared_folder import atomic_write

HEADER = np.dtype(
    {
        "names": ["magic", "version", "tokens", "characters", "bytes", "documents", "tokenizer"],
        "formats": ["<i4", "<i4", "<i4", "<i8", "<i8", "<i8", "S64"],
        "offsets": [0, 4, 8, 16, 24, 32, 64],
        "itemsize": 1024,
    }
)
"""The first three fields are llm.c's. `tokenizer` is its sha256; empty in the shards of others."""

FORMATS = {"|u1": (20241130, 1), "<u2": (20240520, 1), "<u4": (20240801, 7)}
"""Magic number and version by dtype; the first is not one of llm.c's."""

NEEDED = "a token shard is needed: the .bin of nanoGPT or llm.c"


class ShardedTokens:
    """Tokens in several arrays or memory maps, as one sequence.

    Example:
      >>> import numpy as np
      >>> from jaxlabs.data.shards import ShardedTokens
      >>> tokens = ShardedTokens([np.arange(3, dtype=np.uint8), np.arange(3, 9, dtype=np.uint8)])
      >>> tokens[1:5].tolist(), tokens.windows(np.array([0, 2]), 3).tolist()
      ([1, 2, 3, 4], [[0, 1, 2], [2, 3, 4]])
    """

    def __init__(self, shards: Sequence[np.ndarray]):
        """Takes arrays of one dtype, `[length]` each; at least one."""
        self.shards = tuple(np.asarray(shard) for shard in shards)
        self.dtype = self.shards[0].dtype
        # Start of each shard, and the length.
        self._starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns the tokens of a slice, `[length]`, as an array in memory."""
        start, stop, stride = part.indices(len(self))
        if stride != 1:
            raise ValueError(f"a slice without a stride is needed, found one of {stride}")
        parts = [
            shard[max(start - first, 0) : max(stop - first, 0)]
            for first, shard in zip(self._starts, self.shards, strict=False)
        ]
        return np.concatenate(parts)

    def windows(self, start: np.ndarray, length: int) -> np.ndarray:
        """Returns the tokens from each of `start [count]` on, `[count, length]`.

        Raises:
          IndexError: a window reaches past the end.
        """
        start = np.asarray(start, np.int64)
        if start.size and not 0 <= start.min() <= start.max() <= len(self) - length:
            raise IndexError(f"windows of {length} tokens do not lie within {len(self)} tokens")
        result = np.empty((len(start), length), self.dtype)
        index = np.searchsorted(self._starts, start, "right") - 1
        inside = start + length <= self._starts[index + 1]
        for one in np.unique(index[inside]):
            rows = np.flatnonzero(inside & (index == one))
            view = np.lib.stride_tricks.sliding_window_view(self.shards[one], length)
            result[rows] = view[start[rows] - self._starts[one]]
        for row in np.flatnonzero(~inside):
            result[row] = self[start[row] : start[row] + length]
        return result


def concatenate(parts: Sequence[ShardedTokens]) -> ShardedTokens:
    """Returns several sequences, one after the other."""
    return ShardedTokens([shard for part in parts for shard in part.shards])


@contextlib.contextmanager
def writer(path: Path, dtype: np.dtype, fields: dict[str, Any]) -> Iterator[BinaryIO]:
    """Yields a file for the tokens of a shard, which appears at the end.

    Args:
      path: path of the shard.
      dtype: that of the tokens, one of `FORMATS`.
      fields: other fields of the header, which are read at the end.
    """
    with atomic_write(path) as file:
        file.write(bytes(HEADER.itemsize))
        yield file
        header = np.zeros((), HEADER)
        header["magic"], header["version"] = FORMATS[dtype.newbyteorder("<").str]
        header["tokens"] = (file.tell() - HEADER.itemsize) // dtype.itemsize
        for name, value in fields.items():
            header[name] = value
        file.seek(0)
        file.write(header.tobytes())


def documents_path(path: Path) -> Path:
    """Returns the file beside a shard with the start of each document in it, `[documents]`."""
    return path.with_suffix(".documents.npy")


def read_header(path: Path) -> np.ndarray | None:
    """Returns the header `[]` of a shard, or None if it has none, as nanoGPT's.

    Raises:
      UserError: the shard is unreadable, of another byte order or version, or truncated.
    """
    paths.require_file(path, NEEDED)
    with open(path, "rb") as file:
        start = file.read(HEADER.itemsize)
    magics = {magic: (dtype, version) for dtype, (magic, version) in FORMATS.items()}
    magic = int.from_bytes(start[:4], "little")
    if int.from_bytes(start[:4], "big") in magics:
        raise UserError(f"{path}: its numbers are big-endian; little-endian ones are accepted")
    if magic not in magics:
        return None
    dtype, version = magics[magic]
    if len(start) < HEADER.itemsize:
        raise UserError(f"{path}: truncated in its header; {NEEDED}")
    header = np.frombuffer(start, HEADER)[0]
    if header["version"] != version:
        found = f"version {header['version']} of the format"
        raise UserError(f"{path}: {found}; version {version} is accepted")
    expected = HEADER.itemsize + int(header["tokens"]) * np.dtype(dtype).itemsize
    require_size(path, expected)
    return header


def require_size(path: Path, expected: int) -> None:
    """Raises UserError unless a file has a number of bytes."""
    found = path.stat().st_size
    if found != expected:
        what = "truncated" if found < expected else "longer than its header says"
        raise UserError(f"{path}: {what}: {found:,} bytes, {expected:,} expected")


def open_shard(path: Path) -> np.ndarray:
    """Returns the tokens of a shard as a memory map `[length]`.

    Raises:
      UserError: see `read_header`; or it is empty, or has half a token.
    """
    header, size = read_header(path), path.stat().st_size
    if header is None:
        dtype, offset = np.dtype("<u2"), 0
        if size % 2:
            raise UserError(f"{path}: truncated: {size:,} bytes are no whole number of uint16")
    else:
        magic = int(header["magic"])
        dtype = next(np.dtype(one) for one, (number, _) in FORMATS.items() if number == magic)
        offset = HEADER.itemsize
    if size == offset:
        raise UserError(f"{path}: holds no token; {NEEDED}")
    return np.memmap(path, dtype, "r", offset)
