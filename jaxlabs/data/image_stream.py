"""Images that are not in memory: decoded from files, or unpacked from bits, when they are indexed.

A prefix of the images is decoded for everything that needs an array, such as an evaluation set.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxlabs.data import image_files

MAX_SAMPLE_BYTES, MAX_SAMPLE = 2**28, 10_000
"""Bytes and images of a prefix that is decoded into memory, such as an evaluation set."""

CHUNK_BYTES = 2**24
"""Bytes of the images that one pass over all of them holds at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedImages:
    """Images that are indexed as an array `[count, height, width, channels]` uint8 is.

    An index reads its images, and raises UserError if one cannot be read or has changed.
    """

    #: `read(rows)` returns images as an array, given their numbers `[count]`
    read: Callable[[np.ndarray], np.ndarray]
    rows: np.ndarray  #: `[count]`, numbers of the images
    image_shape: tuple[int, int, int]  #: (height, width, channels)

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.image_shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.asarray(self.rows[index])
        return self.read(rows.ravel()).reshape(*rows.shape, *self.image_shape)

    def __mul__(self, factor: np.uint8) -> Self:
        """Returns the images with multiplied pixels, without reading them."""
        return dataclasses.replace(self, read=lambda rows: self.read(rows) * factor)


def decoded(files: Sequence[Path], shape: tuple[int, int, int]) -> StreamedImages:
    """Returns the images of PNG and JPEG files, decoded in threads.

    Args:
      files: the files.
      shape: of an image; the channels of a gray one are equal.
    """

    def read(rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *shape), np.uint8)

        def decode(index: int) -> None:
            images[index] = image_files.read(files[rows[index]], shape[:2])

        for _ in threads().map(decode, range(len(rows))):
            pass
        return images

    return StreamedImages(read, np.arange(len(files)), shape)


def packed(bits: np.ndarray, shape: tuple[int, int, int]) -> StreamedImages:
    """Returns images of 0 and 1.

    Args:
      bits: `[count, bytes]`, see `packed_bytes`; such as a memory map.
      shape: of an image.
    """

    def read(rows: np.ndarray) -> np.ndarray:
        unpacked = np.unpackbits(bits[rows], axis=1, count=int(np.prod(shape)))
        return unpacked.reshape(len(rows), *shape)

    return StreamedImages(read, np.arange(len(bits)), shape)


def packed_bytes(shape: Sequence[int]) -> int:
    """Returns the bytes of an image of one bit per pixel."""
    return -(-int(np.prod(shape)) // 8)


def select(images: np.ndarray | StreamedImages, index: Any) -> np.ndarray | StreamedImages:
    """Returns some images; those that are not in memory are not read."""
    if isinstance(images, StreamedImages):
        return dataclasses.replace(images, rows=images.rows[index])
    return images[index]


def sample(images: np.ndarray | StreamedImages) -> np.ndarray:
    """Returns images as an array: all that are in memory, else those before `sample_size`."""
    return images[: sample_size(images)]


def sample_size(images: np.ndarray | StreamedImages) -> int:
    """Returns how many images of a set that is not in memory are decoded for an evaluation."""
    if not isinstance(images, StreamedImages):
        return len(images)
    fitting = MAX_SAMPLE_BYTES // max(1, int(np.prod(images.image_shape)))
    return min(len(images), MAX_SAMPLE, max(1, fitting))


def chunks(images: np.ndarray | StreamedImages) -> Iterator[np.ndarray]:
    """Yields all images in order, as arrays; one that is in memory at once."""
    if not isinstance(images, StreamedImages):
        return iter([images])
    size = max(1, CHUNK_BYTES // max(1, int(np.prod(images.image_shape))))
    return (images[start : start + size] for start in range(0, len(images), size))


@functools.cache
def threads() -> ThreadPoolExecutor:
    """Returns the threads that decode: Pillow's decoders do not hold Python's lock."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "images")
