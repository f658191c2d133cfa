"""Small pictures as data for an autoencoder, in gray or binary."""

import dataclasses

import numpy as np
import scipy.special

from jaxlabs.config import Config, UserError, setting
from jaxlabs.data import images
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.images import ImageDataset, LabeledImages


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureConfig(Config):
    """How pictures become data."""

    binarization: str = setting(
        "static",
        "pixels 0 or 1, drawn once (static); at every step to train on (redrawn); gray (none)",
        choices=("static", "dynamic", "none"),
        aliases=("binarisation",),
        value_aliases={"redrawn": "dynamic"},
    )
    binarization_seed: int = setting(
        0, "seed of the static draw", minimum=0, maximum=2**32 - 1, aliases=("binarisation_seed",)
    )
    train_images: int | None = setting(
        None, "pictures to train on, the first ones; none: all", minimum=1
    )
    val_size: int = setting(
        0,
        "training pictures to evaluate on, in place of the test pictures",
        minimum=0,
        aliases=("held_out",),
    )


def picture_data(pictures: ImageDataset, config: PictureConfig, coins: bool) -> Data:
    """Returns pictures to train on and to evaluate on, as `images` uint8, 255 is bright.

    Evaluations are on the test pictures and, as `training_images`, on as many that were trained on.
    Held-out pictures are the last of the training set and are then not trained on. Where pixels are
    redrawn, the pictures to train on stay gray, and a model draws from them; those to evaluate on
    are drawn once, as by `images.binarized`.

    Args:
      pictures: the data set.
      config: which of them, and how they are binarized.
      coins: whether losses are those of pixels as coins, so that models without training have one.

    Raises:
      UserError: more pictures are asked for than there are.
    """
    binary = images.binarized(pictures, config.binarization_seed)
    binary = _map_images(binary, lambda values: values * np.uint8(255))
    shown = pictures if config.binarization == "none" else binary
    seen, name, test = shown.train, "test", shown.test
    gray = pictures.train
    if config.val_size:
        name, (seen, test) = "held_out", images.hold_out(shown.train, config.val_size)
    if (config.train_images or 0) > seen.count:
        raise UserError(
            f"--train_images: {config.train_images:,} is not accepted; {pictures.name} has"
            f" {seen.count:,} to train on"
        )
    seen, gray = (part.take(slice(config.train_images or seen.count)) for part in (seen, gray))
    train = gray if config.binarization == "dynamic" else seen
    again = seen.take(slice(None, test.count))
    facts = shown.describe() | {"binarization": config.binarization}
    if config.binarization == "dynamic":
        facts["name"] = f"{pictures.name} redrawn at every step, tested on {binary.name}"
    return Data(
        train=_examples(train),
        evaluations={name: _examples(test), "training_images": _examples(again)},
        final_eval_sets=dict,
        dataset=facts,
        comparable=pictures.comparable,
        vocabulary={"shape": list(test.images.shape[1:])},
        baselines=(lambda: _baselines(train, test)) if coins else dict,
        notice=pictures.notice,
    )


def labeled_data(pictures: ImageDataset, evaluated: int | None = None) -> Data:
    """Returns gray or colored pictures with their labels, `images` uint8 and `labels` int32.

    Evaluations are on test pictures and, as `training_images`, on as many that are trained on.

    Args:
      pictures: the data set.
      evaluated: test pictures that an evaluation reads, the first ones, in which case all of them,
        `whole_test`, are read once at the end; None: all, always.
    """
    test, whole = pictures.test.take(slice(evaluated)), _examples(pictures.test)
    return Data(
        train=_examples(pictures.train),
        evaluations={
            "test": _examples(test),
            "training_images": _examples(pictures.train.take(slice(test.count))),
        },
        final_eval_sets=dict if evaluated is None else lambda: {"whole_test": whole},
        dataset=pictures.describe(),
        comparable=pictures.comparable,
        vocabulary={"shape": list(test.images.shape[1:]), "classes": list(pictures.classes)},
        baselines=dict,
        notice=pictures.notice,
    )


def _map_images(dataset: ImageDataset, function) -> ImageDataset:
    parts = {
        name: dataclasses.replace(part, images=function(part.images))
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, **parts)


def _examples(pictures: LabeledImages) -> Examples:
    return Examples({"images": pictures.images, "labels": pictures.labels})


def _baselines(train: LabeledImages, test: LabeledImages) -> dict[str, float]:
    """Returns what a picture costs without a model, in nats, and pixels as independent coins."""
    pixels = test.images[0].size
    share = np.clip(train.images.reshape(-1, pixels).mean(axis=0) / 255, 1e-4, 1 - 1e-4)
    ink = test.images.reshape(-1, pixels).mean(axis=0) / 255
    cross = -(scipy.special.xlogy(ink, share) + scipy.special.xlogy(1 - ink, 1 - share)).sum()
    return {"fair coins": pixels * float(np.log(2)), "independent pixels": float(cross)}
