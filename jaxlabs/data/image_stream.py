"""Images that are not in memory: decoded from files, or unpacked from bits, when they are indexed.

Both classes index as an array `[count, height, width, channels]` uint8 does. A prefix of the images
is decoded for everything that needs an array, such as an evaluation set.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxlabs.data import image_files

MAX_SAMPLE_BYTES, MAX_SAMPLE = 2**28, 10_000
"""Bytes and images of a prefix that is decoded into memory, such as an evaluation set."""

CHUNK_BYTES = 2**24
"""Bytes of the images that one pass over all of them holds at once."""


class StreamedImages:
    """Images that are read when they are indexed; the base of both kinds."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows: np.ndarray, shape: tuple[int, int, int]):
        """Takes what stands for each image, `[count]`, and the shape of an image."""
        self._rows = rows
        self.shape = (len(rows), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Returns images as an array in memory; a slice or array as the index of an array.

        Raises:
          UserError: a file cannot be read, or has changed.
        """
        rows = np.asarray(self._rows[index])
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        self._read_into(images, rows.ravel())
        return images.reshape(*rows.shape, *self.shape[1:])

    def select(self, index: Any) -> Self:
        """Returns some of the images, without reading them."""
        raise NotImplementedError

    def chunks(self) -> Iterator[np.ndarray]:
        """Yields all images in order, a part of them at once."""
        size = max(1, CHUNK_BYTES // max(1, int(np.prod(self.shape[1:]))))
        return (self[start : start + size] for start in range(0, len(self), size))

    def _read_into(self, images: np.ndarray, rows: np.ndarray) -> None:
        raise NotImplementedError


class DecodedImages(StreamedImages):
    """Images of PNG and JPEG files, decoded in threads."""

    def __init__(self, files: Sequence[Path], shape: tuple[int, int, int]):
        """Takes the files and the shape of an image; a gray one has equal channels."""
        rows = np.empty(len(files), object)
        rows[:] = files
        super().__init__(rows, shape)

    def select(self, index: Any) -> Self:
        return DecodedImages(self._rows[index], self.shape[1:])

    def _read_into(self, images: np.ndarray, rows: np.ndarray) -> None:
        def read(number: int) -> None:
            images[number] = image_files.read(rows[number], self.shape[1:3])

        for _ in threads().map(read, range(len(rows))):
            pass


class PackedImages(StreamedImages):
    """Images of two values, a bit per pixel, from a memory map."""

    def __init__(
        self,
        bits: np.ndarray,
        shape: tuple[int, int, int],
        white: int = 1,
        rows: np.ndarray | None = None,
    ):
        """Takes the images.

        Args:
          bits: [images, bytes], see `packed_bytes`.
          shape: of an image.
          white: value of a pixel whose bit is set; the others are 0.
          rows: [count], which of the images; None: all.
        """
        super().__init__(np.arange(len(bits)) if rows is None else rows, shape)
        self._bits, self._white = bits, np.uint8(white)

    def select(self, index: Any) -> Self:
        return PackedImages(self._bits, self.shape[1:], self._white, self._rows[index])

    def with_white(self, white: int) -> Self:
        """Returns the images with another value of the set pixels."""
        return PackedImages(self._bits, self.shape[1:], white, self._rows)

    def _read_into(self, images: np.ndarray, rows: np.ndarray) -> None:
        pixels = int(np.prod(self.shape[1:]))
        unpacked = np.unpackbits(self._bits[rows], axis=1, count=pixels) * self._white
        images[...] = unpacked.reshape(images.shape)


def packed_bytes(shape: Sequence[int]) -> int:
    """Returns the bytes of an image of one bit per pixel."""
    return -(-int(np.prod(shape)) // 8)


def select(images: np.ndarray | StreamedImages, index: Any) -> np.ndarray | StreamedImages:
    """Returns some images; those that are not in memory are not read."""
    return images.select(index) if isinstance(images, StreamedImages) else images[index]


def sample(images: np.ndarray | StreamedImages) -> np.ndarray:
    """Returns images as an array: all that are in memory, else those before `sample_size`."""
    return images[: sample_size(images)] if isinstance(images, StreamedImages) else images


def sample_size(images: np.ndarray | StreamedImages) -> int:
    """Returns how many images of a set that is not in memory are decoded for an evaluation."""
    if not isinstance(images, StreamedImages):
        return len(images)
    fitting = MAX_SAMPLE_BYTES // max(1, int(np.prod(images.shape[1:])))
    return min(len(images), MAX_SAMPLE, max(1, fitting))


def chunks(images: np.ndarray | StreamedImages) -> Iterator[np.ndarray]:
    """Yields all images in order, as arrays; one that is in memory at once."""
    return images.chunks() if isinstance(images, StreamedImages) else iter([images])


@functools.cache
def threads() -> ThreadPoolExecutor:
    """Returns the threads that decode: Pillow's decoders do not hold Python's lock."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "images")
