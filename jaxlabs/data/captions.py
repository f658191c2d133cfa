"""Pictures of digits with written descriptions, as pairs to train on.

How a digit leans and how thick its stroke is comes from the attributes that it was drawn with,
where these are known, and else from the picture itself. Both are told in thirds: a seven is
slanted when it leans more to the right than two thirds of the sevens to train on.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.digits import CLASSES
from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.images import ImageDataset, LabeledImages
from jaxlabs.data.tokenizers import PADDING, UNKNOWN, WordTokenizer

CAPTION_SEED = 0
"""Of the draw of descriptions, which are part of the data set."""

TINY = 1e-9


@dataclasses.dataclass(frozen=True)
class Described:
    """Pictures with their descriptions.

    Attributes:
      images: [count, height, width, channels] uint8.
      captions: [count] strings.
      truths: [count, 3] int32: all that is true of each picture, as `digit_captions.Claim` has it.
      claims: [count, 3] int32: what its description says of it; UNSAID where it says nothing.
    """

    images: np.ndarray
    captions: np.ndarray
    truths: np.ndarray
    claims: np.ndarray


def inked(images: np.ndarray) -> np.ndarray:
    """Returns how far every pixel is from its image's ground, of the shape of the images, uint8.

    The ground is the median of the outermost pixels, by image and channel: 0 where ink is bright on
    black, as in MNIST, and 255 where it is dark on white, as in a scan.

    Args:
      images: [count, height, width, channels] uint8.
    """
    ends = [0, -1]
    border = np.concatenate([images[:, ends], images[:, 1:-1, ends].swapaxes(1, 2)], axis=2)
    ground = np.median(border, axis=(1, 2), keepdims=True).astype(np.uint8)
    return np.maximum(images, ground) - np.minimum(images, ground)


def measured_slant(images: np.ndarray) -> np.ndarray:
    """Returns by how many degrees each digit leans to the right, `[count]`, from its moments.

    The axis that the rows of a digit are shifted along when it is sheared: the mixed second moment
    over the vertical one. An empty picture does not lean.

    Args:
      images: [count, height, width, channels] uint8, ink of any color on a ground of one.
    """
    height, width = images.shape[1:3]
    down, right = (axis.ravel() for axis in np.indices((height, width)) - (height - 1) / 2)
    ink = inked(images).reshape(len(images), height * width, -1).sum(axis=-1, dtype=np.float32)
    powers = np.stack([np.ones_like(down), down, right, down**2, down * right], axis=1)
    total, *sums = (ink @ powers.astype(np.float32)).astype(np.float64).T
    middle_down, middle_right, squares, products = np.array(sums) / np.maximum(total, TINY)
    vertical, mixed = squares - middle_down**2, products - middle_down * middle_right
    return np.rad2deg(np.arctan(-mixed / np.maximum(vertical, TINY)))


def measured_thickness(images: np.ndarray) -> np.ndarray:
    """Returns the mean thickness of each digit's stroke in pixels, `[count]`.

    A long band has two edges, so its thickness is twice its area over its outline's length. The
    length is the sum of the gradient's size, which holds for gray values too.

    Args:
      images: as for `measured_slant`.
    """
    ink = inked(images).mean(axis=-1, dtype=np.float32) / 255
    ink = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    # Roberts' cross: differences along both diagonals, each over a distance of sqrt(2).
    first, second = ink[:, 1:, 1:] - ink[:, :-1, :-1], ink[:, 1:, :-1] - ink[:, :-1, 1:]
    outline = np.hypot(first, second).sum(axis=(1, 2)) / np.sqrt(2)
    return 2 * ink.sum(axis=(1, 2)) / np.maximum(outline, TINY)


def describe(pictures: ImageDataset) -> tuple[Described, Described]:
    """Returns the pictures to train and to test on with one description each, drawn once.

    Raises:
      UserError: the classes are not the ten digits, or one has no picture to train on.
    """
    if pictures.classes != CLASSES:
        found = ", ".join(pictures.classes[:12]) or "none"
        raise UserError(
            f"--dataset: {pictures.name} has the classes {found}; 0 to 9 are needed, the digits"
            " that there are words for"
        )
    counts = np.bincount(pictures.train.labels, minlength=len(CLASSES))
    if not counts.all():
        raise UserError(
            f"--dataset: {pictures.name} has no {CLASSES[int(np.argmin(counts))]} to train on;"
            " every digit is needed"
        )
    parts = (pictures.train, pictures.test)
    values = [(_slants(part), _thicknesses(part)) for part in parts]
    borders = [_thirds(of_train, pictures.train.labels) for of_train in values[0]]
    described = []
    for stream, (part, of_part) in enumerate(zip(parts, values, strict=True)):
        levels = [
            (value[:, None] > border[part.labels]).sum(axis=1)
            for value, border in zip(of_part, borders, strict=True)
        ]
        truths = np.stack([part.labels, *levels], axis=1).astype(np.int32)
        generator = np.random.default_rng([CAPTION_SEED, stream])
        captions, claims = digit_captions.draw(generator, truths)
        described.append(Described(part.images, np.array(captions), truths, claims))
    return described[0], described[1]


def caption_data(pictures: ImageDataset, context_length: int, evaluated: int | None = None) -> Data:
    """Returns pairs to train on and to evaluate on.

    Examples have `images`, `tokens [count, context]` int32, and `truths` and `claims [count, 3]`,
    see `Described`.

    Args:
      pictures: digits.
      context: tokens of a description, filled up with padding.
      evaluated: test pairs that evaluations read, the first ones; None: all.

    Raises:
      UserError: see `describe`; the context is too short for the descriptions.
    """
    train, test = describe(pictures)
    tokenizer = WordTokenizer.from_lines(digit_captions.all_wordings())
    parts = [_examples(part, tokenizer, context_length) for part in (train, test)]
    first = {name: values[:evaluated] for name, values in parts[1].arrays.items()}
    count = len(first["tokens"])
    again = {name: values[:count] for name, values in parts[0].arrays.items()}
    facts = pictures.describe()
    facts["captions"] = len(digit_captions.all_wordings())
    facts["attributes"] = "as drawn" if pictures.train.attributes else "measured"
    return Data(
        train=parts[0],
        evaluations={"test": Examples(first), "training_pairs": Examples(again)},
        final_eval_sets=dict,
        dataset=facts,
        comparable=False,
        vocabulary=tokenizer.to_json() | {"shape": list(train.images.shape[1:])},
        baselines=dict,
        notice=pictures.notice,
    )


def encode(captions: Any, tokenizer: WordTokenizer, context_length: int, flag: str) -> np.ndarray:
    """Returns the tokens of descriptions, `[count, context]` int32, filled up with padding.

    Raises:
      UserError: a word is not known, or there are none or more than the context; it names `flag`.
    """
    rows = np.full((len(captions), context_length), PADDING, np.int32)
    for row, caption in zip(rows, captions, strict=True):
        tokens = tokenizer.encode(caption)
        if UNKNOWN in tokens:
            known = ", ".join(tokenizer.words)
            raise UserError(
                f"--{flag}: {caption!r} has words that are not known; known are {known}"
            )
        if not 0 < len(tokens) <= context_length:
            raise UserError(
                f"--{flag}: {caption!r} has {len(tokens)} words and marks; 1 to {context_length}"
            )
        row[: len(tokens)] = tokens
    return rows


def _slants(part: LabeledImages) -> np.ndarray:
    if not part.attributes:
        return measured_slant(part.images)
    # A turn to the left takes away from what is seen of a lean to the right.
    return part.attributes["slant"] - part.attributes["rotation"]


def _thicknesses(part: LabeledImages) -> np.ndarray:
    return part.attributes["thickness"] if part.attributes else measured_thickness(part.images)


def _thirds(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the two borders between the thirds of each digit's values, `[digits, 2]`."""
    by_digit = [values[labels == digit] for digit in range(len(CLASSES))]
    return np.stack([np.quantile(one, (1 / 3, 2 / 3)) for one in by_digit])


def _examples(part: Described, tokenizer: WordTokenizer, context_length: int) -> Examples:
    distinct, places = np.unique(part.captions, return_inverse=True)
    tokens = encode(distinct.tolist(), tokenizer, context_length, "context_length")[places]
    arrays = {"images": part.images, "tokens": tokens}
    return Examples(arrays | {"truths": part.truths, "claims": part.claims})
