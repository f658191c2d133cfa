"""Named sets of small labeled pictures, and any folder of pictures by its path."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError, nearest
from jaxlabs.data import digits, image_files, mnist, sources

MNIST, RENDERED = "mnist", "rendered_digits"
NAMES = (MNIST, RENDERED)
RENDERED_COUNTS = {"train": 10_000, "test": 2_000}
RENDERED_SEED = 0

# Of a folder's classes, the share that is held out as the test set, and what it is drawn by.
TEST_SHARE, SPLIT_SEED = 0.1, 0
MIN_IMAGES = 20
NAMED = 10
"""Classes that an error names."""


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """Pictures with their labels.

    Attributes:
      images: [count, height, width, channels] uint8.
      labels: [count] int32, a place in the classes of the data set; all 0 where it has none.
      attributes: what is known of each picture, [count] each; see `digits.render`.
    """

    images: np.ndarray
    labels: np.ndarray
    attributes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def take(self, places: slice | np.ndarray) -> "LabeledImages":
        """Returns the pictures at these places."""
        attributes = {name: values[places] for name, values in self.attributes.items()}
        return LabeledImages(self.images[places], self.labels[places], attributes)


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Pictures to train and to test on, and where they came from.

    Attributes:
      name: a name that `load` knows, or the path.
      train: what a model may learn from.
      test: what it may not.
      classes: names of the labels, or none.
      source: where it was found, for people.
      sha256: of all pictures and labels in their order; a resumed run must find the same.
      notice: one line to be shown if these are not the data asked for, else None.
      comparable: whether published figures are about these very pictures.
    """

    name: str
    train: LabeledImages
    test: LabeledImages
    classes: tuple[str, ...]
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
            "train": self.train.count,
            "test": self.test.count,
            "shape": list(self.train.images.shape[1:]),
            "classes": list(self.classes),
        }


def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> ImageDataset:
    """Returns pictures by name, or those of a folder by its path.

    `mnist` is looked for in this order: the four original files in `data_dir`/mnist; prepared by
    tensorflow-datasets in `data_dir`/tfds, $TFDS_DATA_DIR or ~/tensorflow_datasets; at a mirror,
    kept in `data_dir`/mnist. Where none of it works, `rendered_digits` takes its place, and the
    result's `notice` says so. A folder's pictures are cut into nine tenths for training and one
    tenth for testing by a fixed draw; its sub-folders, if it has any, are the classes, and each of
    them is cut so.

    Args:
      name: one of `NAMES`, or the path to a folder of PNG or JPEG pictures of one size.
      data_dir: folder of the data sets; None is `sources.default_data_dir()`.
      download: whether the network may be used.

    Raises:
      UserError: no such name or folder; a file that is damaged or not the published one; a folder
        with too few pictures, with pictures of several sizes, or with a class of a single one.
    """
    if name == RENDERED:
        return _rendered()
    if name != MNIST:
        return _folder(name)
    home = sources.data_home(data_dir)
    try:
        arrays, source = mnist.find(home, download=download)
    except sources.DownloadError as error:
        instead = _rendered()
        notice = (
            f"mnist is neither in {home / 'mnist'} nor prepared by tensorflow-datasets, and "
            f"{error}: training on {instead.name} ({instead.source}) instead, whose figures are "
            "not comparable with the published ones"
        )
        return dataclasses.replace(instead, notice=notice)
    parts = {
        part: LabeledImages(
            arrays[f"{part}_images"][..., None], arrays[f"{part}_labels"].astype(np.int32)
        )
        for part in ("train", "test")
    }
    found = _dataset(MNIST, parts["train"], parts["test"], digits.CLASSES, str(source))
    return dataclasses.replace(found, comparable=True)


def hold_out(pictures: LabeledImages, count: int) -> tuple[LabeledImages, LabeledImages]:
    """Returns (training, validation) pictures: the last `count` are the validation set.

    With 10,000 of MNIST's 60,000 this is the split that most of its papers use.

    Raises:
      UserError: not both sets would have a picture.
    """
    if not 0 < count < pictures.count:
        raise UserError(
            f"--val_size: {count:,} is not accepted; a whole number from 1 to"
            f" {pictures.count - 1:,}, as there are {pictures.count:,} pictures"
        )
    return pictures.take(slice(None, -count)), pictures.take(slice(-count, None))


def binarized(dataset: ImageDataset, seed: int = 0) -> ImageDataset:
    """Returns the data set with every pixel 0 or 1, drawn once and for all.

    A pixel of value v is 1 with probability v / 255, independently of all others (the binarization
    of Salakhutdinov and Murray 2008, there with another draw; the published draw, Larochelle's, is
    a file of its own). The seed stands in the name.
    """
    train, test = (
        dataclasses.replace(part, images=_draw(part.images, seed, stream))
        for stream, part in enumerate((dataset.train, dataset.test))
    )
    name = f"{dataset.name} binarized by seed {seed}"
    return dataclasses.replace(
        dataset, name=name, train=train, test=test, sha256=_sha256(train, test)
    )


def _draw(images: np.ndarray, seed: int, stream: int) -> np.ndarray:
    # Whole numbers from 0 to 254: exactly v of the 255 lie below v.
    thresholds = np.random.default_rng([seed, stream]).integers(
        255, size=images.shape, dtype=np.uint8
    )
    return (thresholds < images).astype(np.uint8)


def _rendered() -> ImageDataset:
    train, test = (
        LabeledImages(*digits.render(count, RENDERED_SEED, stream=stream))
        for stream, count in enumerate(RENDERED_COUNTS.values())
    )
    made = f"digits drawn from {len(digits.FONTS)} fonts of matplotlib"
    return _dataset(RENDERED, train, test, digits.CLASSES, made)


def _folder(name: str) -> ImageDataset:
    folder = paths.local(name, "--dataset")
    # os.path, since pathlib raises where a name is too long to be one.
    if not name or not os.path.isdir(folder):
        found = "is a file" if name and os.path.isfile(folder) else "is no data set and no folder"
        raise UserError(
            f"--dataset: {name!r} {found}; accepted are {', '.join(NAMES)} or the path to a folder "
            f"of PNG or JPEG pictures of one size{nearest(name, NAMES)}"
        )
    held = image_files.read_folder(folder, at_least=MIN_IMAGES)
    counts = np.bincount(held.labels)
    alone = [name for name, count in zip(held.classes, counts, strict=False) if count < 2]
    if alone:
        named = ", ".join(alone[:NAMED]) + ", ..." * (len(alone) > NAMED)
        raise UserError(
            f"{folder}: one image only in {named}; every sub-folder is a class, which needs one to "
            "train on and one to test on; without classes, put all images into one folder"
        )
    pictures = LabeledImages(held.images, held.labels)
    train, test = (pictures.take(places) for places in _split(held.labels))
    return _dataset(name, train, test, held.classes, str(folder.resolve()))


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of the images to train on and of those to test on, a tenth of a class."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    is_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        is_test[of_class[-max(1, round(TEST_SHARE * len(of_class))) :]] = True
    return order[~is_test[order]], order[is_test[order]]


def _dataset(
    name: str, train: LabeledImages, test: LabeledImages, classes: tuple[str, ...], source: str
) -> ImageDataset:
    return ImageDataset(name, train, test, classes, source, _sha256(train, test))


def _sha256(*parts: LabeledImages) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.images.shape).encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels, "<i4").data)
    return digest.hexdigest()
