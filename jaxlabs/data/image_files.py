"""A folder of pictures, PNG or JPEG, as one array."""

import dataclasses
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError

ENDINGS = (".png", ".jpg", ".jpeg")
GRAY, COLOR = ("1", "L"), ("RGB", "P")
"""The modes, in the terms of Pillow, that are read as one channel and as three."""

NEEDED = "PNG or JPEG pictures of one size, gray or RGB, are needed"


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a folder holds, in the order of the file names.

    Attributes:
      images: [count, height, width, channels] uint8; three channels if any picture has colors.
      labels: [count] int32, a place in `classes`; all 0 where there are none.
      classes: the names of the sub-folders that hold pictures, or none.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def read_folder(folder: Path, *, at_least: int, gray: bool = False) -> Pictures:
    """Reads all pictures of a folder, or of its sub-folders, whose names then are the classes.

    Args:
      folder: where the pictures are; files with other endings and hidden ones are left alone.
      at_least: the smallest accepted number of pictures.
      gray: whether colors become gray values (ITU-R 601 luma).

    Raises:
      UserError: too few pictures; pictures both beside and inside sub-folders; a picture that
        cannot be read, has another size than the first, or is neither gray nor RGB with 8 bits.
    """
    inside = {
        entry.name: files
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".") and (files := _pictures(entry))
    }
    for name in inside:
        if not paths.is_utf8(name):
            raise UserError(f"{folder}: the name of the sub-folder {name!r} is not UTF-8")
    beside = _pictures(folder)
    if inside and beside:
        raise UserError(
            f"{folder}: {beside[0].name} lies beside the sub-folder {next(iter(inside))}; pictures "
            "are needed either in one folder or in sub-folders, one for each class"
        )
    pictures = [path for files in inside.values() for path in files] or beside
    if len(pictures) < at_least:
        held = {0: "no picture", 1: "one picture"}.get(len(pictures), f"{len(pictures)} pictures")
        raise UserError(f"{folder}: holds {held}; at least {at_least} {NEEDED}")
    numbers = np.arange(len(inside), dtype=np.int32)
    labels = np.repeat(numbers, [len(files) for files in inside.values()])
    if not inside:
        labels = np.zeros(len(pictures), np.int32)
    return Pictures(_read_all(pictures, gray), labels, tuple(inside))


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )


def _read_all(pictures: list[Path], gray: bool) -> np.ndarray:
    images, first = [], None
    for path in pictures:
        image = _read(path, gray)
        first = image.shape if first is None else first
        if image.shape[:2] != first[:2]:
            height, width = image.shape[:2]
            raise UserError(
                f"{path}: {width} x {height} pixels, where {pictures[0].name} has "
                f"{first[1]} x {first[0]}; {NEEDED}"
            )
        images.append(image)
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*first[:2], channels)) for image in images])


def _read(path: Path, gray: bool) -> np.ndarray:
    paths.require_file(path, NEEDED)
    try:
        return decode(path, gray=gray)
    # Pillow's errors are of many kinds, also for one damaged file; a huge image is one of them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({reason}); {NEEDED}") from None


def decode(file: Path | BinaryIO, *, gray: bool) -> np.ndarray:
    """Returns [height, width, channels] uint8, turned upright as its EXIF orientation says.

    Only the decoders of PNG and JPEG are tried, whatever the file is called: others start programs.

    Raises:
      Exception: of many kinds, for a file that is damaged, huge or of another kind.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data, which are passed over
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            mode, transparent = image.mode, "transparency" in image.info
            if mode not in GRAY + COLOR or transparent:
                raise ValueError(f"a picture of mode {mode}{' with transparency' * transparent}")
            upright = ImageOps.exif_transpose(image)
            values = np.asarray(upright.convert("L" if gray or mode in GRAY else "RGB"))
    return values.reshape(*values.shape[:2], -1)
