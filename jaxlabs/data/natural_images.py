"""Natural images, and their patches as data for a sparse autoencoder."""

import dataclasses
import functools
import hashlib
import math
import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import dead_leaves, image_files, sources, whitening
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule, Dataset

PHOTOGRAPHS, LEAVES = "natural_images", "dead_leaves"
NAMES = (PHOTOGRAPHS, LEAVES)
LEAVES_COUNT, LEAVES_SIDE = 10, 512

CLASSIC = "IMAGES.mat"
CLASSIC_SHAPE = (10, 512, 512)
WHITENED, RAW = "IMAGES", "IMAGESr"
"""Names of the array in the files of Olshausen and Field, whitened and raw."""

MAX_VALUE = 1e38
"""Limit of absolute values in a file."""

# From the exercise: patches are clipped at so many standard deviations and scaled to this range.
DEVIATIONS, RANGE = 3.0, (0.1, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photographs(Dataset):
    """Gray images of one size, and their origin."""

    images: np.ndarray  #: `[count, height, width]` float64
    whitened: bool  #: whether the images are whitened already

    @classmethod
    def of(cls, name: str, images: np.ndarray, source: str | Path, *, whitened: bool) -> Self:
        """Returns the data set of some images, with the hash of all of them in order."""
        images = np.ascontiguousarray(images)
        sha256 = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
        source = str(source)
        return cls(name=name, source=source, sha256=sha256, images=images, whitened=whitened)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "images": len(self.images),
            "shape": list(self.images.shape[1:]),
            "whitened": self.whitened,
        }


def load(name: str, data_dir: str | Path | None = None) -> Photographs:
    """Returns gray images by name, or those of a folder or a .mat file by its path.

    `natural_images` are searched in `data_dir`/natural_images: `IMAGES.mat`, the ten images of
    Olshausen and Field (1997) that the write-ups use, or else all PNG and JPEG images there. They
    have no permanent URL; the fallback is `dead_leaves`. `warning` is set for all other images than
    those of Olshausen and Field.

    Args:
      name: one of `NAMES`, or the path to a folder of images of one size, or to a .mat file with an
        array IMAGES (whitened) or IMAGESr (raw), `[height, width, count]` or, for square images,
        `[pixels, count]`.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.

    Raises:
      UserError: unknown name, missing folder or file; unreadable file; images of several sizes.
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
        where = f"the images of {classic}"
    elif folder.is_dir():
        found, where = _read_folder(PHOTOGRAPHS, folder), f"the images in {folder}"
    else:
        return _leaves().in_place_of(
            f"natural_images are not in {folder} and have no permanent URL"
        )
    warning = (
        f"natural_images: {where} are not the ten whitened images of Olshausen and Field, which "
        "published results are on"
    )
    return dataclasses.replace(found, warning=warning)


def whiten_images(photographs: Photographs) -> np.ndarray:
    """Returns whitened images `[count, height, width]`; whitens them unless they already are."""
    if photographs.whitened:
        return photographs.images
    return whitening.whiten(photographs.images)


def random_patches(
    images: np.ndarray, count: int, size: int, seed: int | tuple[int, ...]
) -> np.ndarray:
    """Cuts patches at uniformly random positions of random `images [images, height, width]`.

    Returns:
      `[count, size, size]` float64; the size is in pixels.

    Raises:
      UserError: a patch is larger than an image.
    """
    num_images, height, width = images.shape
    if size > min(height, width):
        raise ArgumentError(
            "patch_size",
            f"{size} is not accepted; at most {min(height, width)}, as the images have {width} x"
            f" {height} pixels",
        )
    rng = np.random.default_rng(seed)
    index = rng.integers(num_images, size=count)
    top = rng.integers(height - size + 1, size=count)
    left = rng.integers(width - size + 1, size=count)
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return windows[index, top, left].astype(np.float64)


def normalize_patches(patches: np.ndarray) -> np.ndarray:
    """Returns patches `[count, ...]` scaled to [0.1, 0.9], the range of a sigmoid output, float64.

    As in Ng's exercise on sparse autoencoders (CS294A / UFLDL): the mean of each patch is
    subtracted; values are clipped at three standard deviations of all values of all patches; the
    range of -3 to 3 deviations is mapped linearly to 0.1 to 0.9.

    Raises:
      UserError: every patch is constant.
    """
    centered = patches - patches.mean(axis=tuple(range(1, patches.ndim)), keepdims=True)
    limit = DEVIATIONS * centered.std()
    if not limit > 0:
        raise ArgumentError("dataset", "all patches are constant; images with contrast are needed")
    low, high = RANGE
    return low + (np.clip(centered / limit, -1, 1) + 1) * (high - low) / 2


def patch_data(photographs: Photographs, count: int, size: int, seed: int) -> DataModule:
    """Returns `count` random training patches and as many other patches of the same images.

    Examples are `patches [size * size]` float32, of `size` pixels per side. Both sets are whitened
    and scaled as in Ng's exercise, see `normalize_patches`. The monitored split is the training
    patches, as in the write-ups. `other_patches` were not trained on but overlap with training
    patches, since there are more patches than disjoint positions.
    """
    images = whiten_images(photographs)
    train, other = (_patch_examples(images, count, size, key) for key in ((seed, 0), (seed, 1)))
    return DataModule(
        train=train,
        eval_sets={"training_patches": train, "other_patches": other},
        dataset=photographs.describe() | {"patches": count},
        comparable=photographs.comparable,
        warning=photographs.warning,
    )


def _patch_examples(images: np.ndarray, count: int, size: int, seed: tuple[int, int]) -> Examples:
    patches = normalize_patches(random_patches(images, count, size, seed))
    return Examples({"patches": patches.reshape(count, -1).astype(np.float32)})


def _at_path(name: str) -> Photographs:
    path = paths.local(name, "dataset")
    if name and os.path.isdir(path):
        return _read_folder(name, path)
    if name and path.suffix == ".mat" and os.path.exists(path):
        return _read_mat(name, path)
    found = f"no data set, folder or .mat file {name!r}"
    accepted = f"{image_files.FOLDER}, or to a .mat file with {WHITENED} or {RAW}"
    raise sources.unknown(found, name, NAMES, accepted)


def _read_folder(name: str, folder: Path) -> Photographs:
    images = image_files.find(folder, at_least=1).read(gray=True)
    return Photographs.of(name, images[..., 0] / 255.0, folder.resolve(), whitened=False)


def _read_mat(name: str, path: Path) -> Photographs:
    from scipy.io import loadmat

    needed = f"{WHITENED} or {RAW}, [height, width, count] of finite numbers, is needed"
    paths.require_file(path, f"a .mat file with {needed}")
    try:
        stored = loadmat(path, spmatrix=False)
    # scipy raises errors of many types: for HDF5 files (-v7.3), damaged files, other formats.
    except Exception as error:
        raise sources.unreadable(path, error, f"a .mat file with {needed}") from None
    key = next((key for key in (WHITENED, RAW) if key in stored), None)
    if key is None:
        found = ", ".join(key for key in stored if not key.startswith("__")) or "nothing"
        raise UserError(f"{path}: holds {found}; {needed}")
    array = stored[key]  # a dense or a sparse array
    complaint = f"{path}: {key} is {array.dtype} of shape {list(array.shape)}; {needed}"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not array.size:
        raise UserError(complaint)
    if array.ndim == 2 and math.isqrt(len(array)) ** 2 == len(array):
        side = math.isqrt(len(array))
        array = array.reshape(side, side, -1, order="F")  # column-major, as in MATLAB
    # NaN fails the comparison too; squares of values below the limit are finite.
    if array.ndim != 3 or not (np.abs(array.astype(np.float64)) < MAX_VALUE).all():
        raise UserError(complaint)
    images = np.moveaxis(array, -1, 0).astype(np.float64)
    return Photographs.of(name, images, path.resolve(), whitened=key == WHITENED)


def _leaves() -> Photographs:
    images = _sample_leaves(LEAVES_COUNT, LEAVES_SIDE)
    return Photographs.of(LEAVES, images, "occluding discs and rectangles", whitened=False)


@functools.cache  # takes seconds, and a run loads its data before and after training
def _sample_leaves(count: int, side: int) -> np.ndarray:
    images = dead_leaves.sample(count, side)
    images.flags.writeable = False
    return images
