"""Photographs, and the small patches that sparse coding learns from."""

import dataclasses
import functools
import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError, nearest
from jaxlabs.data import dead_leaves, image_files, sources, whitening

PHOTOGRAPHS, LEAVES = "natural_images", "dead_leaves"
NAMES = (PHOTOGRAPHS, LEAVES)
LEAVES_COUNT, LEAVES_SIDE = 10, 512

CLASSIC = "IMAGES.mat"
CLASSIC_SHAPE = (10, 512, 512)
WHITENED, RAW = "IMAGES", "IMAGESr"
"""Names of the array in the files of Olshausen and Field, which had it whitened and as it was."""

MAX_VALUE = 1e38
"""Limit of the sizes of values in a file."""

# Of the exercise: patches are cut at so many standard deviations and moved into this range.
DEVIATIONS, RANGE = 3.0, (0.1, 0.9)


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Gray pictures of one size, and where they came from.

    Attributes:
      name: a name that `load` knows, or the path.
      images: [count, height, width] float64.
      whitened: whether they are whitened already.
      source: where they were found, for people.
      sha256: of all pictures in their order; a resumed run must find the same.
      notice: one line to be shown if published figures are about other pictures, else None.
      comparable: whether published figures are about these very pictures.
    """

    name: str
    images: np.ndarray
    whitened: bool
    source: str
    sha256: str
    notice: str | None = None
    comparable: bool = False

    def describe(self) -> dict[str, Any]:
        """Returns what a run folder keeps about the data."""
        return {
            "name": self.name,
            "source": self.source,
            "sha256": self.sha256,
            "images": len(self.images),
            "shape": list(self.images.shape[1:]),
            "whitened": self.whitened,
        }


def load(name: str, data_dir: str | Path | None = None) -> Photographs:
    """Returns gray pictures by name, or those of a folder or a .mat file by its path.

    `natural_images` are looked for in `data_dir`/natural_images: `IMAGES.mat`, the ten pictures of
    Olshausen and Field (1997) that the write-ups used, or else all PNG and JPEG pictures there.
    They have no public address to rely on: where there is nothing, `dead_leaves` take their place.
    `notice` says so whenever the pictures are not Olshausen and Field's.

    Args:
      name: one of `NAMES`, or the path to a folder of pictures of one size, or to a .mat file with
        an array IMAGES (whitened) or IMAGESr (not), [height, width, count] or, with square
        pictures, [pixels, count].
      data_dir: folder of the data sets; None is `sources.default_data_dir()`.

    Raises:
      UserError: no such name, folder or file; an unreadable file; pictures of several sizes.
    """
    if name == LEAVES:
        return _leaves()
    if name != PHOTOGRAPHS:
        return _at_path(name)
    home = sources.data_home(data_dir)
    folder = home / PHOTOGRAPHS
    classic = folder / CLASSIC
    if classic.exists():
        found = _read_mat(PHOTOGRAPHS, classic)
        if found.whitened and found.images.shape == CLASSIC_SHAPE:
            return dataclasses.replace(found, comparable=True)
        where = str(classic)
    elif folder.is_dir():
        found, where = _read_folder(PHOTOGRAPHS, folder), f"those in {folder}"
    else:
        found = _leaves()
        notice = (
            f"natural_images are not in {folder}, and have no public address: training on {LEAVES} "
            f"({found.source}) instead, whose figures are not comparable with the published ones"
        )
        return dataclasses.replace(found, notice=notice)
    notice = (
        f"natural_images: {where} are not the ten whitened ones of Olshausen and Field, which the "
        "published figures are about"
    )
    return dataclasses.replace(found, notice=notice)


def whitened(photographs: Photographs) -> np.ndarray:
    """Returns the pictures [count, height, width], whitened here unless they already were."""
    if photographs.whitened:
        return photographs.images
    return whitening.whiten(photographs.images)


def random_patches(
    images: np.ndarray, count: int, size: int, seed: int | tuple[int, ...]
) -> np.ndarray:
    """Cuts patches at uniformly random places of random pictures [pictures, height, width].

    Returns:
      [count, size, size] float64.

    Raises:
      UserError: a patch is larger than a picture.
    """
    pictures, height, width = images.shape
    if size > min(height, width):
        raise UserError(
            f"--patch_size: {size} is not accepted; at most {min(height, width)}, as the pictures"
            f" are of {width} x {height} pixels"
        )
    generator = np.random.default_rng(seed)
    picture = generator.integers(pictures, size=count)
    top = generator.integers(height - size + 1, size=count)
    left = generator.integers(width - size + 1, size=count)
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return windows[picture, top, left].astype(np.float64)


def normalized(patches: np.ndarray) -> np.ndarray:
    """Brings patches [count, ...] into [0.1, 0.9], where a sigmoid can reach every value.

    As Ng's exercise on sparse autoencoders (CS294A / UFLDL) does it: each patch loses its own mean;
    values are cut at three standard deviations of all values of all patches; what is left, -3 to 3
    deviations, goes linearly to 0.1 to 0.9.

    Returns:
      An array of the same shape, float64.

    Raises:
      UserError: there is nothing to see: every patch is of one value.
    """
    centered = patches - patches.mean(axis=tuple(range(1, patches.ndim)), keepdims=True)
    limit = DEVIATIONS * centered.std()
    if not limit > 0:
        raise UserError(
            "--dataset: the patches are all of one value; pictures with contrast are needed"
        )
    low, high = RANGE
    return low + (np.clip(centered / limit, -1, 1) + 1) * (high - low) / 2


def _at_path(name: str) -> Photographs:
    path = paths.local(name, "--dataset")
    if name and os.path.isdir(path):
        return _read_folder(name, path)
    if name and path.suffix == ".mat" and os.path.exists(path):
        return _read_mat(name, path)
    raise UserError(
        f"--dataset: no data set, folder or .mat file {name!r}; accepted are {', '.join(NAMES)} or "
        "the path to a folder of PNG or JPEG pictures of one size, or to a .mat file with "
        f"{WHITENED} or {RAW}{nearest(name, NAMES)}"
    )


def _read_folder(name: str, folder: Path) -> Photographs:
    held = image_files.read_folder(folder, at_least=1, gray=True)
    return _photographs(name, held.images[..., 0] / 255.0, False, str(folder.resolve()))


def _read_mat(name: str, path: Path) -> Photographs:
    from scipy.io import loadmat

    needed = f"{WHITENED} or {RAW}, [height, width, count] of finite numbers, is needed"
    paths.require_file(path, f"a .mat file with {needed}")
    try:
        held = loadmat(path)
    # scipy's errors are of many kinds: for HDF5 files (-v7.3), damaged and foreign ones.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({reason}); a .mat file with {needed}") from None
    key = next((key for key in (WHITENED, RAW) if key in held), None)
    if key is None:
        found = ", ".join(key for key in held if not key.startswith("__")) or "nothing"
        raise UserError(f"{path}: holds {found}; {needed}")
    array = held[key]  # a dense array, or a sparse matrix
    complaint = f"{path}: {key} is {array.dtype} of shape {list(array.shape)}; {needed}"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not array.size:
        raise UserError(complaint)
    if array.ndim == 2 and math.isqrt(len(array)) ** 2 == len(array):
        side = math.isqrt(len(array))
        array = array.reshape(side, side, -1, order="F")  # columns of a picture, as MATLAB counts
    # NaN is not below the limit either; the squares of what is are finite.
    if array.ndim != 3 or not (np.abs(array.astype(np.float64)) < MAX_VALUE).all():
        raise UserError(complaint)
    images = np.moveaxis(array, -1, 0).astype(np.float64)
    return _photographs(name, images, key == WHITENED, str(path.resolve()))


def _leaves() -> Photographs:
    images = _drawn(LEAVES_COUNT, LEAVES_SIDE)
    return _photographs(LEAVES, images, False, "discs and rectangles that hide each other")


@functools.cache  # seconds of work, for which a run asks before and after it trains
def _drawn(count: int, side: int) -> np.ndarray:
    images = dead_leaves.draw(count, side)
    images.flags.writeable = False
    return images


def _photographs(name: str, images: np.ndarray, is_whitened: bool, source: str) -> Photographs:
    images = np.ascontiguousarray(images)
    sha256 = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
    return Photographs(name, images, is_whitened, source, sha256)
