"""MNIST from its original IDX files, from tensorflow-datasets or from a mirror.

LeCun, Cortes and Burges, "The MNIST database of handwritten digits": 60,000 training and 10,000
test images of 28 x 28 gray values.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import zlib
from pathlib import Path

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import image_files, sources

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


@dataclasses.dataclass(frozen=True)
class File:
    """One of the four original files: name, rank of its array, published hash."""

    name: str
    ndim: int
    sha256: str


FILES = {
    "train_images": File(
        "train-images-idx3-ubyte.gz",
        3,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train_labels": File(
        "train-labels-idx1-ubyte.gz",
        1,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "test_images": File(
        "t10k-images-idx3-ubyte.gz",
        3,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "test_labels": File(
        "t10k-labels-idx1-ubyte.gz",
        1,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}

CONTENT_SHA256 = "f771933d03a86cc5f6899b91d168d95717c342a985562a4a2b5d8d2517a4cb24"
"""Order-independent hash, see `content_sha256`: tensorflow-datasets shuffles the images."""

KINDS = {1: "labels", 3: "images"}
"""Content of an IDX file, by the rank of its array."""

# Decoding 70,000 PNGs takes up to half a minute, so the arrays are cached under this name.
CACHE = "mnist-prepared.npz"

Arrays = dict[str, np.ndarray]
"""By the keys of FILES: images `[count, 28, 28]` uint8, labels `[count]` uint8."""


def find(data_dir: Path, *, download: bool) -> tuple[Arrays, Path]:
    """Returns the arrays and their path.

    The search order: the four files in `data_dir`/mnist; a folder of tensorflow-datasets, which
    holds the same images in another order; a download of the missing files.

    Raises:
      UserError: a file is damaged or not the published one.
      sources.DownloadError: no source is available.
    """
    folder = data_dir / "mnist"
    missing = [file for file in FILES.values() if not (folder / file.name).exists()]
    if missing and (prepared := sources.find_tfds("mnist", data_dir)):
        return _read_tfds(prepared, data_dir), prepared
    if missing and not download:
        raise sources.DownloadError("downloads are switched off")
    for file in missing:
        sources.download(MIRROR + file.name, file.sha256, folder / file.name)
    return {key: _read_published(folder, file) for key, file in FILES.items()}, folder


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Returns the array of a gzipped IDX file of bytes.

    The format: two zero bytes, 8 for unsigned bytes, the rank; the length of each axis as a
    big-endian 32-bit number; the values in C order.

    Raises:
      UserError: the file is unreadable, or not an IDX file of rank `ndim`.
    """
    content = paths.read_bytes(path, "a gzipped IDX file is needed")
    try:
        data = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise sources.unreadable(path, error, "a gzipped IDX file is needed") from None
    magic, header = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if data[:4] != magic:
        raise UserError(
            f"{path}: starts with {data[:4].hex(' ') or 'nothing'}; {magic.hex(' ')} is needed, "
            f"an IDX file of {KINDS[ndim]}"
        )
    shape = np.frombuffer(data[4:header].ljust(4 * ndim, b"\0"), ">u4").astype(np.int64)
    if len(data) != header + shape.prod():
        raise UserError(
            f"{path}: holds {len(data):,} bytes but its header specifies "
            f"{header + shape.prod():,}; download the file again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def content_sha256(arrays: Arrays) -> str:
    """Returns a hash that does not depend on the order of the images within a set."""
    digest = hashlib.sha256()
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        rows = zip(images, labels, strict=True)
        hashes = [
            hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in rows
        ]
        digest.update(b"".join(sorted(hashes)))
    return digest.hexdigest()


def _read_published(folder: Path, file: File) -> np.ndarray:
    path = folder / file.name
    array = read_idx(path, file.ndim)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    sources.require_sha256(path, sha256, file.sha256, "MNIST", "images by")
    return array


def _read_tfds(folder: Path, data_dir: Path) -> Arrays:
    homes = [data_dir, *paths.in_home(".cache/jaxlabs")]
    for home in homes:
        arrays = _read_cache(home / CACHE)
        if arrays is not None and content_sha256(arrays) == CONTENT_SHA256:
            return arrays
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = sources.read_tfds(
            folder, (part,), _decode
        )
    if content_sha256(arrays) != CONTENT_SHA256:
        raise UserError(f"{folder}: not the published MNIST; delete it or prepare it again")
    for home in homes:
        if _write_cache(home / CACHE, arrays):
            break
    return arrays


def _decode(records: list[sources.Record]) -> tuple[np.ndarray, np.ndarray]:
    images = [image_files.decode(io.BytesIO(record["image"]), gray=True) for record in records]
    return np.stack(images)[..., 0], np.array([record["label"] for record in records], np.uint8)


def _read_cache(path: Path) -> Arrays | None:
    """Returns the cached arrays, or None if the file is missing or damaged."""
    try:
        with np.load(io.BytesIO(paths.read_bytes(path, ""))) as cached:
            return {key: cached[key] for key in FILES}
    except Exception:  # a damaged archive raises errors of many types
        return None


def _write_cache(path: Path, arrays: Arrays) -> bool:
    """Caches the arrays atomically; returns whether that succeeded."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):  # fails on a read-only disk
            partial.unlink()
        return False
    return True
