"""Image data sets for autoencoders (gray or binarized) and for classifiers."""

import dataclasses

import numpy as np

from jaxlabs.config import ArgumentError, Config, positive, setting
from jaxlabs.data import image_stream, images
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.host import HostArrays
from jaxlabs.data.image_stream import StreamedImages
from jaxlabs.data.images import ImageDataset, LabeledImages


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDataConfig(Config):
    """Settings of the image data: binarization and split sizes."""

    binarization: str = setting(
        "static",
        "binarization of pixels: sampled once (static), at every training step (dynamic), or none",
        choices=("static", "dynamic", "none"),
        aliases=("binarisation",),
        value_aliases={"redrawn": "dynamic"},
    )
    binarization_seed: int = setting(
        0,
        "seed of the static binarization",
        minimum=0,
        maximum=2**32 - 1,
        aliases=("binarisation_seed",),
    )
    train_images: int | None = positive(
        None, "number of training images, the first ones; none: all"
    )
    val_size: int = setting(
        0,
        "size of the validation set, the last training images, which replaces the test set",
        minimum=0,
        aliases=("held_out",),
    )


def image_data(dataset: ImageDataset, config: ImageDataConfig, bernoulli: bool) -> DataModule:
    """Returns a training set and evaluation sets of `images`, uint8 with 255 as white.

    The evaluation sets are the test set, or `held_out` (the last training images, which are then
    not trained on), and `training_images`, as many images of the training set. With dynamic
    binarization the training images stay gray and the model samples them at every step; the
    evaluation images are binarized once, by `images.binarize`. Only the Bernoulli likelihood has
    baselines.

    Raises:
      UserError: `train_images` exceeds the size of the training set.
    """
    used, static, name, test = dataset, dataset.train, "test", dataset.test
    if config.binarization != "none":
        used = images.binarize(dataset, config.binarization_seed)
        static, test = (
            dataclasses.replace(part, images=part.images * np.uint8(255))
            for part in (used.train, used.test)
        )
    if config.val_size:
        name, (static, test) = "held_out", images.hold_out(static, config.val_size)
    if (config.train_images or 0) > static.count:
        raise ArgumentError(
            "train_images",
            f"{config.train_images:,} is not accepted; {dataset.name} has {static.count:,} training"
            " images",
        )
    count = config.train_images or static.count
    static = static.take(slice(count))
    train = dataset.train.take(slice(count)) if config.binarization == "dynamic" else static
    test = sample(test)
    seen = sample(static.take(slice(None, test.count)))
    facts = used.describe() | {"binarization": config.binarization}
    if config.binarization == "dynamic":
        facts["name"] = f"{dataset.name} binarized at every step, tested on {used.name}"
    return DataModule(
        train=_training_data(train),
        eval_sets={name: _examples(test), "training_images": _examples(seen)},
        dataset=facts,
        comparable=dataset.comparable,
        data_spec={"shape": list(test.images.shape[1:])},
        baselines=(lambda: _baselines(train, test)) if bernoulli else dict,
        warning=dataset.warning,
    )


def labeled_data(dataset: ImageDataset, num_eval_examples: int | None = None) -> DataModule:
    """Returns gray or color `images` uint8 with `labels` int32.

    The evaluation sets are `test` and `training_images`, as many images of the training set. With
    `num_eval_examples` an evaluation has the first test images, and the whole test set,
    `whole_test`, is evaluated once, at the end.
    """
    whole = sample(dataset.test)
    test = whole.take(slice(num_eval_examples))
    return DataModule(
        train=_training_data(dataset.train),
        eval_sets={
            "test": _examples(test),
            "training_images": _examples(sample(dataset.train.take(slice(test.count)))),
        },
        final_eval_sets=dict
        if num_eval_examples is None
        else lambda: {"whole_test": _examples(whole)},
        dataset=dataset.describe(),
        comparable=dataset.comparable,
        data_spec={"shape": list(test.images.shape[1:]), "classes": list(dataset.classes)},
        warning=dataset.warning,
    )


def sample(part: LabeledImages) -> LabeledImages:
    """Returns the first images, in memory, of a set that is not; else the whole set."""
    part = part.take(slice(image_stream.sample_size(part.images)))
    return dataclasses.replace(part, images=part.images[:])


def _training_data(part: LabeledImages) -> Examples | HostArrays:
    arrays = {"images": part.images, "labels": part.labels}
    return HostArrays(arrays) if isinstance(part.images, StreamedImages) else Examples(arrays)


def _examples(part: LabeledImages) -> Examples:
    return Examples({"images": part.images, "labels": part.labels})


def _baselines(train: LabeledImages, test: LabeledImages) -> dict[str, float]:
    """Returns the nats per image of Bernoulli pixels: uniform, and at the mean of each pixel."""
    from scipy.special import xlogy

    pixels = test.images[0].size
    sums = [rows.reshape(-1, pixels).sum(axis=0) for rows in image_stream.chunks(train.images)]
    mean = np.clip(np.sum(sums, axis=0) / train.count / 255, 1e-4, 1 - 1e-4)
    target = test.images.reshape(-1, pixels).mean(axis=0) / 255
    cross_entropy = -xlogy(target, mean) - xlogy(1 - target, 1 - mean)
    uniform = pixels * float(np.log(2))
    return {"uniform Bernoulli": uniform, "independent Bernoulli": float(cross_entropy.sum())}
