"""Data sets of small labeled images, by name or by the path of a folder of images."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from jaxlabs import paths
from jaxlabs.config import ArgumentError, Config, UserError, runtime
from jaxlabs.data import digits, image_files, image_folder, mnist, sources
from jaxlabs.data.dataset import Dataset
from jaxlabs.data.image_folder import FolderScan
from jaxlabs.data.image_stream import StreamedImages, decoded, select

MNIST, RENDERED = "mnist", "rendered_digits"
NAMES = (MNIST, RENDERED)
RENDERED_COUNTS = {"train": 10_000, "test": 2_000}
RENDERED_SEED = 0

# Test share of each class of a folder, and the seed of that split.
TEST_SHARE, SPLIT_SEED = 0.1, 0
MIN_IMAGES = 20
MAX_NAMED = 10
"""Limit of the classes that an error names."""


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """Images with their labels."""

    #: `[count, height, width, channels]` uint8, in memory or not
    images: np.ndarray | StreamedImages
    labels: np.ndarray  #: `[count]` int32, indices of the classes of the data set; 0 if it has none
    #: known factors of each image, `[count]` each; see `digits.render`
    attributes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.images)

    def take(self, index: slice | np.ndarray) -> "LabeledImages":
        """Returns the images at some indices."""
        attributes = {name: values[index] for name, values in self.attributes.items()}
        return LabeledImages(select(self.images, index), self.labels[index], attributes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDataset(Dataset):
    """A training and a test set of images, and their origin."""

    train: LabeledImages  #: training set
    test: LabeledImages  #: test set
    classes: tuple[str, ...]  #: names of the labels, or none
    scanned: FolderScan | None = None  #: of a folder that is not in memory

    @classmethod
    def of(
        cls, train: LabeledImages, test: LabeledImages, classes: tuple[str, ...], **origin: Any
    ) -> Self:
        """Returns the data set of some images, with the hash of all images and labels in order."""
        sha256 = _sha256(train, test)
        return cls(train=train, test=test, classes=classes, sha256=sha256, **origin)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "train": self.train.count,
            "test": self.test.count,
            "shape": list(self.train.images.shape[1:]),
            "classes": list(self.classes),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFilesConfig(Config):
    """How a folder of images is read."""

    memory_limit: int | None = runtime(
        None,
        "bytes of decoded images up to which a folder is read into memory; the images of a larger"
        " one are decoded batch by batch, which are the same; none: a quarter of the memory of"
        " the machine",
        minimum=0,
        maximum=2**60,
        section="data",
    )

    @property
    def max_in_memory(self) -> int:
        """Bytes of the largest folder that is read into memory."""
        limit = psutil.virtual_memory().total // 4
        return limit if self.memory_limit is None else self.memory_limit


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    download: bool = True,
    files: ImageFilesConfig | None = None,
) -> ImageDataset:
    """Returns an image data set by name, or a folder of images by its path.

    `mnist` is searched in this order: the four original files in `data_dir`/mnist; prepared by
    tensorflow-datasets in `data_dir`/tfds, $TFDS_DATA_DIR or ~/tensorflow_datasets; a download from
    a mirror, cached in `data_dir`/mnist. If all of them fail, the fallback is `rendered_digits` and
    the result's `warning` names it. A folder is split into nine tenths for training and one tenth
    for testing by a fixed seed. Its sub-folders, if any, are the classes, and the split is
    stratified by class.

    Args:
      name: one of `NAMES`, or the path to a folder of PNG or JPEG images of one size.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.
      download: whether downloads are allowed.
      files: how a folder is read; None: into memory.

    Raises:
      UserError: unknown name or missing folder; a file that is damaged or not the published one; a
        folder with too few images, images of several sizes, or a class of a single image.
    """
    if name == RENDERED:
        return _rendered()
    if name != MNIST:
        return _folder(name, data_dir, files)
    home = sources.data_home(data_dir)
    try:
        arrays, source = mnist.find(home, download=download)
    except sources.DownloadError as error:
        return _rendered().in_place_of(
            f"mnist is neither in {home / 'mnist'} nor prepared by tensorflow-datasets, and {error}"
        )
    train, test = (
        LabeledImages(
            arrays[f"{part}_images"][..., None], arrays[f"{part}_labels"].astype(np.int32)
        )
        for part in ("train", "test")
    )
    origin = {"name": MNIST, "source": str(source), "comparable": True}
    return ImageDataset.of(train, test, digits.CLASSES, **origin)


def hold_out(images: LabeledImages, count: int) -> tuple[LabeledImages, LabeledImages]:
    """Returns training and validation images: the last `count` are the validation set.

    The usual validation set of MNIST is the last 10,000 of the 60,000 training images.

    Raises:
      UserError: one of the sets would be empty.
    """
    if not 0 < count < images.count:
        accepted = (
            f"an integer from 1 to {images.count - 1:,}, as there are {images.count:,} images"
        )
        raise ArgumentError("val_size", f"{count:,} is not accepted; {accepted}")
    return images.take(slice(None, -count)), images.take(slice(-count, None))


def binarize(dataset: ImageDataset, seed: int = 0) -> ImageDataset:
    """Returns the data set with static binarization: every pixel 0 or 1, sampled once.

    A pixel of value v is 1 with probability v / 255, independently of all others. This is the
    binarization of Salakhutdinov and Murray (2008) with other random numbers; Larochelle's file
    holds the published sample. The name of the result includes the seed.
    """
    if dataset.scanned is not None:
        return _binarize_streamed(dataset, seed)

    def sample(part: LabeledImages, stream: int) -> LabeledImages:
        rng = np.random.default_rng([seed, stream])
        # Integers from 0 to 254: exactly v of the 255 are below v.
        thresholds = rng.integers(255, size=part.images.shape, dtype=np.uint8)
        return dataclasses.replace(part, images=(thresholds < part.images).astype(np.uint8))

    train, test = sample(dataset.train, 0), sample(dataset.test, 1)
    name, sha256 = f"{dataset.name} binarized by seed {seed}", _sha256(train, test)
    return dataclasses.replace(dataset, name=name, train=train, test=test, sha256=sha256)


def _binarize_streamed(dataset: ImageDataset, seed: int) -> ImageDataset:
    parts = dataset.train, dataset.test
    bits, sha256 = image_folder.binarize(
        dataset.scanned, [(part.images, part.labels) for part in parts], seed
    )
    train, test = (
        dataclasses.replace(part, images=images) for part, images in zip(parts, bits, strict=True)
    )
    name = f"{dataset.name} binarized by seed {seed}"
    return dataclasses.replace(dataset, name=name, train=train, test=test, sha256=sha256)


def _rendered() -> ImageDataset:
    train, test = (
        LabeledImages(*digits.render(count, RENDERED_SEED, stream=stream))
        for stream, count in enumerate(RENDERED_COUNTS.values())
    )
    origin = f"digits rendered from {len(digits.FONTS)} fonts of matplotlib"
    return ImageDataset.of(train, test, digits.CLASSES, name=RENDERED, source=origin)


def _folder(
    name: str, data_dir: str | Path | None, config: ImageFilesConfig | None
) -> ImageDataset:
    folder = paths.local(name, "dataset")
    # os.path, since pathlib raises where a name is too long to be one.
    if not name or not os.path.isdir(folder):
        found = "is a file" if name and os.path.isfile(folder) else "is no data set and no folder"
        raise sources.unknown(f"{name!r} {found}", name, NAMES, image_files.FOLDER)
    found = image_files.find(folder, at_least=MIN_IMAGES)
    counts = np.bincount(found.labels)
    alone = [name for name, count in zip(found.classes, counts, strict=False) if count < 2]
    if alone:
        named = ", ".join(alone[:MAX_NAMED]) + ", ..." * (len(alone) > MAX_NAMED)
        raise UserError(
            f"{folder}: one image only in {named}; every sub-folder is a class, which needs a "
            "training and a test image; without classes, put all images into one folder"
        )
    parts, source = _split(found.labels), str(folder.resolve())
    if config is not None and found.decoded_bytes() > config.max_in_memory:
        scanned = image_folder.scan(folder, found, parts, data_dir)
        images = LabeledImages(decoded(found.files, scanned.shape), found.labels)
        train, test = (images.take(index) for index in parts)
        return ImageDataset(
            name=name,
            source=source,
            sha256=scanned.sha256,
            train=train,
            test=test,
            classes=found.classes,
            scanned=scanned,
        )
    images = LabeledImages(found.read(), found.labels)
    train, test = (images.take(index) for index in parts)
    return ImageDataset.of(train, test, found.classes, name=name, source=source)


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training and of the test images, a tenth of each class."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    is_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        is_test[of_class[-max(1, round(TEST_SHARE * len(of_class))) :]] = True
    return order[~is_test[order]], order[is_test[order]]


def _sha256(*parts: LabeledImages) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.images.shape).encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels, "<i4").data)
    return digest.hexdigest()
