"""Images of digits with captions, as image-text pairs.

Slant and stroke thickness are the attributes of rendered digits, and are measured in other images.
Captions name them by tercile within each digit: a seven is slanted if it leans more to the right
than two thirds of the training sevens.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxlabs.config import ArgumentError
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.digits import CLASSES
from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.images import ImageDataset, LabeledImages
from jaxlabs.data.tokenizers import UNKNOWN, WordTokenizer
from jaxlabs.data.vocab import pad

CAPTION_SEED = 0
"""Seed of the captions, which are part of the data set."""

EPSILON = 1e-9


@dataclasses.dataclass(frozen=True)
class CaptionedImages:
    """Images with their captions."""

    images: np.ndarray  #: `[count, height, width, channels]` uint8
    captions: np.ndarray  #: `[count]` strings
    #: `[count, 3]` int32: digit, slant and weight of each image, see
    #: `digit_captions.CaptionAttributes`
    attribute_labels: np.ndarray
    #: `[count, 3]` int32: those in the caption; NOT_MENTIONED for the others
    mentioned_attributes: np.ndarray


def foreground(images: np.ndarray) -> np.ndarray:
    """Returns the absolute difference of every pixel from the background, uint8.

    The images are `[count, height, width, channels]` uint8, and so is the result. The background is
    the median of the border pixels, by image and channel: 0 for white ink on black, as in MNIST,
    and 255 for black ink on white, as in a scan.
    """
    ends = [0, -1]
    border = np.concatenate([images[:, ends], images[:, 1:-1, ends].swapaxes(1, 2)], axis=2)
    background = np.median(border, axis=(1, 2), keepdims=True).astype(np.uint8)
    return np.maximum(images, background) - np.minimum(images, background)


def measure_slant(images: np.ndarray) -> np.ndarray:
    """Returns the slant of each digit to the right in degrees, `[count]`, from image moments.

    The images `[count, height, width, channels]` uint8 have ink of any color on a uniform
    background. The tangent of the slant is the mixed second moment over the vertical one, the shear
    of the rows. The slant of an empty image is 0.
    """
    height, width = images.shape[1:3]
    down, right = (axis.ravel() for axis in np.indices((height, width)) - (height - 1) / 2)
    ink = foreground(images).reshape(len(images), height * width, -1).sum(axis=-1, dtype=np.float32)
    powers = np.stack([np.ones_like(down), down, right, down**2, down * right], axis=1)
    total, *sums = (ink @ powers.astype(np.float32)).astype(np.float64).T
    mean_down, mean_right, squares, products = np.array(sums) / np.maximum(total, EPSILON)
    vertical, mixed = squares - mean_down**2, products - mean_down * mean_right
    return np.rad2deg(np.arctan(-mixed / np.maximum(vertical, EPSILON)))


def measure_thickness(images: np.ndarray) -> np.ndarray:
    """Returns the mean stroke thickness of each digit in pixels, `[count]`.

    The images are those of `measure_slant`. The thickness of a long band is twice its area over the
    length of its outline. The length is the sum of gradient magnitudes, which holds for gray values
    too.
    """
    ink = foreground(images).mean(axis=-1, dtype=np.float32) / 255
    ink = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    # Roberts cross: differences along both diagonals, each over a distance of sqrt(2).
    first, second = ink[:, 1:, 1:] - ink[:, :-1, :-1], ink[:, 1:, :-1] - ink[:, :-1, 1:]
    outline = np.hypot(first, second).sum(axis=(1, 2)) / np.sqrt(2)
    return 2 * ink.sum(axis=(1, 2)) / np.maximum(outline, EPSILON)


def caption_images(dataset: ImageDataset) -> tuple[CaptionedImages, CaptionedImages]:
    """Returns the training and the test images with one fixed random caption each.

    Raises:
      UserError: the classes are not the ten digits, or one has no training image.
    """
    if dataset.classes != CLASSES:
        named = ", ".join(dataset.classes[:12]) or "none"
        raise ArgumentError(
            "dataset", f"{dataset.name} has the classes {named}; the digits 0 to 9 are needed"
        )
    counts = np.bincount(dataset.train.labels, minlength=len(CLASSES))
    if not counts.all():
        missing = CLASSES[int(np.argmin(counts))]
        raise ArgumentError(
            "dataset", f"{dataset.name} has no training image of {missing}; every digit is needed"
        )
    parts = (dataset.train, dataset.test)
    values = [(_slants(part), _thicknesses(part)) for part in parts]
    borders = [_terciles(of_train, dataset.train.labels) for of_train in values[0]]
    captioned = []
    for stream, (part, of_part) in enumerate(zip(parts, values, strict=True)):
        levels = [
            (value[:, None] > border[part.labels]).sum(axis=1)
            for value, border in zip(of_part, borders, strict=True)
        ]
        labels = np.stack([part.labels, *levels], axis=1).astype(np.int32)
        rng = np.random.default_rng([CAPTION_SEED, stream])
        captions, mentioned = digit_captions.sample(rng, labels)
        captioned.append(CaptionedImages(part.images, np.array(captions), labels, mentioned))
    return captioned[0], captioned[1]


def caption_data(
    dataset: ImageDataset, context_length: int, num_eval_examples: int | None = None
) -> DataModule:
    """Returns image-text pairs.

    Examples have `images`, `tokens [count, context_length]` int32, and `attribute_labels` and
    `mentioned_attributes [count, 3]`, see `CaptionedImages`. An evaluation has the first
    `num_eval_examples` test pairs; None: all.

    Raises:
      UserError: see `caption_images`; a caption exceeds the context length.
    """
    train, test = caption_images(dataset)
    tokenizer = WordTokenizer.from_lines(digit_captions.all_captions())
    train_pairs, test_pairs = (_examples(part, tokenizer, context_length) for part in (train, test))
    test_pairs = test_pairs.take(slice(num_eval_examples))
    seen = train_pairs.take(slice(test_pairs.count))
    facts = dataset.describe()
    facts["captions"] = len(digit_captions.all_captions())
    facts["attributes"] = "rendered" if dataset.train.attributes else "measured"
    return DataModule(
        train=train_pairs,
        eval_sets={"test": test_pairs, "training_pairs": seen},
        dataset=facts,
        data_spec=tokenizer.to_json() | {"shape": list(train.images.shape[1:])},
        warning=dataset.warning,
    )


def encode(
    captions: Iterable[str], tokenizer: WordTokenizer, context_length: int, argument: str
) -> np.ndarray:
    """Returns the tokens of captions, `[count, time]` int32, padded to the context length.

    Raises:
      UserError: an unknown word, no word, or more tokens than the context length; names `argument`.
    """
    rows = [tokenizer.encode(caption) for caption in captions]
    for caption, tokens in zip(captions, rows, strict=True):
        if UNKNOWN in tokens:
            known = ", ".join(tokenizer.words)
            raise ArgumentError(
                argument, f"{caption!r} has unknown words; the vocabulary is {known}"
            )
        if not 0 < len(tokens) <= context_length:
            raise ArgumentError(
                argument, f"{caption!r} has {len(tokens)} tokens; 1 to {context_length} needed"
            )
    return pad(rows, context_length)


def _slants(part: LabeledImages) -> np.ndarray:
    if not part.attributes:
        return measure_slant(part.images)
    # Counter-clockwise rotation reduces the visible slant to the right.
    return part.attributes["slant"] - part.attributes["rotation"]


def _thicknesses(part: LabeledImages) -> np.ndarray:
    return part.attributes["thickness"] if part.attributes else measure_thickness(part.images)


def _terciles(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the terciles of the values of each digit, `[digits, 2]`."""
    by_digit = [values[labels == digit] for digit in range(len(CLASSES))]
    return np.stack([np.quantile(one, (1 / 3, 2 / 3)) for one in by_digit])


def _examples(part: CaptionedImages, tokenizer: WordTokenizer, context_length: int) -> Examples:
    distinct, index = np.unique(part.captions, return_inverse=True)
    tokens = encode(distinct.tolist(), tokenizer, context_length, "context_length")[index]
    arrays = {"images": part.images, "tokens": tokens, "attribute_labels": part.attribute_labels}
    return Examples(arrays | {"mentioned_attributes": part.mentioned_attributes})
