"""A folder of PNG or JPEG images: its files, and all of them as one array."""

import dataclasses
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import sources

ENDINGS = (".png", ".jpg", ".jpeg")
GRAY, COLOR = ("1", "L"), ("RGB", "P")
"""Pillow modes that are read as one channel and as three."""

NEEDED = "PNG or JPEG images of one size, gray or RGB, are needed"
FOLDER = "a folder of PNG or JPEG images of one size"


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The images of a folder, not read, in the order of the file names."""

    files: list[Path]
    labels: np.ndarray  #: `[count]` int32, indices of `classes`; 0 if there are none
    classes: tuple[str, ...]  #: names of the sub-folders that hold images, or none

    def decoded_bytes(self) -> int:
        """Returns the bytes of all images in memory, if they are as the first one."""
        return len(self.files) * read(self.files[0]).size

    def read(self, *, gray: bool = False) -> np.ndarray:
        """Returns all images, `[count, height, width, channels]` uint8.

        There are three channels if any image has colors. With `gray` they are converted to gray
        values (ITU-R 601 luma).

        Raises:
          UserError: an image cannot be read, differs in size from the first, or is neither gray nor
            RGB with 8 bits.
        """
        images, first = [], None
        for path in self.files:
            image = _read(path, gray)
            first = image.shape if first is None else first
            require_size(path, image.shape[:2], self.files[0], first[:2])
            images.append(image)
        channels = max(image.shape[2] for image in images)
        return np.stack([np.broadcast_to(image, (*first[:2], channels)) for image in images])


def find(folder: Path, *, at_least: int) -> ImageFiles:
    """Returns the images of a folder, or of its sub-folders, whose names are then the classes.

    Files with other suffixes and hidden files are ignored.

    Raises:
      UserError: too few images; images both beside and inside sub-folders.
    """
    inside = {
        entry.name: files
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".") and (files := _image_paths(entry))
    }
    for name in inside:
        if not paths.is_utf8(name):
            raise UserError(f"{folder}: the name of the sub-folder {name!r} is not UTF-8")
    beside = _image_paths(folder)
    if inside and beside:
        raise UserError(
            f"{folder}: {beside[0].name} is beside the sub-folder {next(iter(inside))}; images "
            "are needed either in one folder or in sub-folders, one for each class"
        )
    files = [path for inner in inside.values() for path in inner] or beside
    if len(files) < at_least:
        held = {0: "no image", 1: "one image"}.get(len(files), f"{len(files)} images")
        raise UserError(f"{folder}: holds {held}; at least {at_least} {NEEDED}")
    numbers = np.arange(len(inside), dtype=np.int32)
    labels = np.repeat(numbers, [len(inner) for inner in inside.values()])
    if not inside:
        labels = np.zeros(len(files), np.int32)
    return ImageFiles(files, labels, tuple(inside))


def _image_paths(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )


def require_size(path: Path, size: tuple, first: Path, expected: tuple) -> None:
    """Raises UserError unless the (height, width) of an image is that of the first one."""
    if size != expected:
        found, needed = (f"{width} x {height}" for height, width in (size, expected))
        raise UserError(f"{path}: {found} pixels, where {first.name} has {needed}; {NEEDED}")


def read(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns an image as `decode` does; several threads may call it.

    Args:
      path: the file.
      size: (height, width), if an image of another size need not be decoded; None: any.

    Raises:
      UserError: the file cannot be read, or has another size.
    """
    paths.require_file(path, NEEDED)
    try:
        image = _decode(path, False, size)
    except Exception as error:  # as in `_read`
        raise sources.unreadable(path, error, NEEDED) from None
    if size is not None and image.shape[:2] != size:
        raise UserError(f"{path}: changed since it was read first; {NEEDED}")
    return image


def _read(path: Path, gray: bool) -> np.ndarray:
    paths.require_file(path, NEEDED)
    try:
        return decode(path, gray=gray)
    # Pillow raises errors of many types for damaged files and for huge images.
    except Exception as error:
        raise sources.unreadable(path, error, NEEDED) from None


def decode(file: Path | BinaryIO, *, gray: bool) -> np.ndarray:
    """Returns `[height, width, channels]` uint8, rotated by the EXIF orientation.

    Only the PNG and JPEG decoders are tried, whatever the suffix: others start programs.

    Raises:
      Exception: of many types, for a file that is damaged, huge or of another format.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF data are ignored
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _decode(file, gray)


def _decode(file: Path | BinaryIO, gray: bool, size: tuple[int, int] | None = None) -> np.ndarray:
    """As `decode`, but without its filters of warnings, which are those of all threads."""
    from PIL import Image, ImageOps

    with Image.open(file, formats=("PNG", "JPEG")) as image:
        mode, transparent = image.mode, "transparency" in image.info
        if mode not in GRAY + COLOR or transparent:
            raise ValueError(f"an image of mode {mode}{' with transparency' * transparent}")
        if size is not None and image.size not in (size, size[::-1]):
            raise ValueError(f"{image.width} x {image.height} pixels, not {size[1]} x {size[0]}")
        upright = ImageOps.exif_transpose(image)
        values = np.asarray(upright.convert("L" if gray or mode in GRAY else "RGB"))
    return values.reshape(*values.shape[:2], -1)
