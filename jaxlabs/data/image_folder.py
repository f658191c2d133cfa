"""A folder of images that do not fit into memory: read once to check and to hash it.

What the passes find, and the bits of binarized images, are kept in a folder of prepared data, so
that a later run starts at once.
"""

import contextlib
import dataclasses
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from jaxlabs.data import image_files, image_stream, prepared_folder
from jaxlabs.data.image_files import ImageFiles
from jaxlabs.data.image_stream import StreamedImages, threads
from jaxlabs.data.prepared_folder import atomic_write

VERSION = 1
"""Version of the kept files; others are made again."""

RANDOM_BYTES = 2**20
"""Random bytes that are sampled at once."""


@dataclasses.dataclass(frozen=True)
class FolderScan:
    """What is known of a folder without its pixels.

    Attributes:
      shape: of an image, (height, width, channels); three channels if any image has colors.
      sha256: hash of the images and labels of all parts, as of the same images in memory.
      folder: where it is kept.
    """

    shape: tuple[int, int, int]
    sha256: str
    folder: Path


def scan(
    root: Path,
    found: ImageFiles,
    parts: Sequence[np.ndarray],
    data_dir: str | Path | None = None,
) -> FolderScan:
    """Reads all images once, unless an earlier run has.

    Args:
      root: the folder.
      found: its images.
      parts: indices of the images of each part of the data set, in order.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.

    Raises:
      UserError: an image cannot be read, or differs in size from the first.
      ArgumentError: the folder of the data sets cannot be written.
    """
    folder = prepared_folder.folder(root, found.files, data_dir, VERSION)
    with prepared_folder.usable(folder):
        kept = _once(folder / "images.json", lambda: _scan(found, parts))
    return FolderScan(tuple(kept["shape"]), kept["sha256"], folder)


def binarize(
    scanned: FolderScan, parts: Sequence[tuple[StreamedImages, np.ndarray]], seed: int
) -> tuple[list[StreamedImages], str]:
    """Returns the parts with static binarization, the bits of `images.binarize`, and their hash.

    Args:
      scanned: the scan of the folder.
      parts: images and `labels [count]` of each part.
      seed: that of the binarization.

    Raises:
      UserError: an image cannot be read, or has changed.
      ArgumentError: the folder of the data sets cannot be written.
    """
    folder, ends = scanned.folder, np.cumsum([len(images) for images, _ in parts])
    path, bits = (folder / f"binarized-{seed}{suffix}" for suffix in (".json", ".bits"))
    shape = (int(ends[-1]), image_stream.packed_bytes(scanned.shape))
    with prepared_folder.usable(folder):
        if not bits.exists() or bits.stat().st_size != math.prod(shape):
            path.unlink(missing_ok=True)
        kept = _once(path, lambda: _binarize(bits, parts, seed))
        rows = np.split(np.memmap(bits, np.uint8, "r", shape=shape), ends[:-1])
    return [image_stream.packed(part, scanned.shape) for part in rows], kept["sha256"]


def _once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of a JSON file; where there is one, the folder may be read-only."""
    folder = path.parent
    with contextlib.nullcontext() if path.exists() else prepared_folder.locked(folder):
        return prepared_folder.once(path, make)


def _scan(found: ImageFiles, parts: Sequence[np.ndarray]) -> dict[str, Any]:
    size = image_files.read(found.files[0]).shape[:2]
    # Whether all images are gray is known at the end.
    channels, digests = 1, {1: hashlib.sha256(), 3: hashlib.sha256()}
    chunk = max(1, image_stream.CHUNK_BYTES // (size[0] * size[1] * 3))
    with _progress(sum(map(len, parts)), "checking images") as bar:
        for index in parts:
            for count, digest in digests.items():
                digest.update(repr((len(index), *size, count)).encode())
            for start in range(0, len(index), chunk):
                files = [found.files[i] for i in index[start : start + chunk]]
                for path, image in zip(files, threads().map(image_files.read, files), strict=True):
                    image_files.require_size(path, image.shape[:2], found.files[0], size)
                    channels = max(channels, image.shape[2])
                    digests[3].update(np.repeat(image, 3 // image.shape[2], axis=2).data)
                    if channels == 1:
                        digests[1].update(np.ascontiguousarray(image).data)
                bar.update(len(files))
            for digest in digests.values():
                digest.update(np.ascontiguousarray(found.labels[index], "<i4").data)
    return {"shape": [*size, channels], "sha256": digests[channels].hexdigest()}


def _binarize(
    bits: Path, parts: Sequence[tuple[StreamedImages, np.ndarray]], seed: int
) -> dict[str, Any]:
    digest = hashlib.sha256()
    count = sum(len(images) for images, _ in parts)
    with atomic_write(bits) as file, _progress(count, "binarizing") as bar:
        for stream, (images, labels) in enumerate(parts):
            thresholds = _Thresholds(np.random.default_rng([seed, stream]))
            digest.update(repr(images.shape).encode())
            for chunk in image_stream.chunks(images):
                binary = (thresholds.take(chunk.size).reshape(chunk.shape) < chunk).view(np.uint8)
                digest.update(binary.data)
                file.write(np.packbits(binary.reshape(len(chunk), -1), axis=1).data)
                bar.update(len(chunk))
            digest.update(np.ascontiguousarray(labels, "<i4").data)
    return {"sha256": digest.hexdigest()}


class _Thresholds:
    """`Generator.integers(255, dtype=np.uint8)` in parts, whose sequence is that of one call.

    Of uniform bytes, numpy rejects 0 and subtracts 1 (Lemire 2019); a call of its own for each part
    would drop the bytes that the last word has left.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng, self._rest = rng, np.zeros(0, np.uint8)

    def take(self, count: int) -> np.ndarray:
        """Returns the next integers from 0 to 254, `[count]` uint8."""
        parts, missing = [self._rest], count - len(self._rest)
        while missing > 0:
            words = np.frombuffer(self._rng.bytes(RANDOM_BYTES), np.uint8)
            parts.append(words[words > 0] - np.uint8(1))
            missing -= len(parts[-1])
        whole = np.concatenate(parts)
        self._rest = whole[count:]
        return whole[:count]


@contextlib.contextmanager
def _progress(count: int, doing: str) -> Iterator[tqdm.tqdm]:
    with warnings.catch_warnings(), tqdm.tqdm(total=count, desc=doing, disable=None) as bar:
        warnings.simplefilter("ignore")  # damaged EXIF data are ignored
        yield bar
