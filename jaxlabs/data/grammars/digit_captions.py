"""A grammar of captions of handwritten digits, whose attributes are known.

    a slanted seven, bold
    a thin two
    the digit four, straight and medium

A caption names the digit, and with known probability its slant and its stroke weight. It says
nothing else, so many captions match one image and one caption matches many images. The
distribution is known, and so is the best possible retrieval score.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SLANTS = (("backward",), ("upright", "straight"), ("slanted", "leaning"))
"""Words for each tercile of the slant, from left to right."""

WEIGHTS = (("thin", "light"), ("regular", "medium"), ("bold", "heavy"))
"""Words for each tercile of the stroke thickness."""

NOT_MENTIONED = -1
"""Value in arrays of attributes for one that a caption does not mention."""

MENTION_PROBABILITY = 0.7
"""Probability that a caption mentions the slant, and independently the weight."""

TEMPLATES = {
    (True, True): (
        "a {slant} {digit}, {weight}",
        "a {weight}, {slant} {digit}",
        "the digit {digit}, {slant} and {weight}",
    ),
    (True, False): ("a {slant} {digit}", "the digit {digit}, {slant}"),
    (False, True): ("a {weight} {digit}", "a {digit}, {weight}", "the digit {digit}, {weight}"),
    (False, False): ("a {digit}", "the digit {digit}"),
}
"""Templates, by whether slant and weight are mentioned."""


class CaptionAttributes(NamedTuple):
    """Attributes in a caption: digit, and slant and weight from 0 to 2, None if not mentioned."""

    digit: int
    slant: int | None = None
    weight: int | None = None


@functools.cache
def paraphrases(attributes: CaptionAttributes) -> tuple[str, ...]:
    """Returns every caption with exactly these attributes, the plainest first."""
    digit, slant, weight = attributes
    templates = TEMPLATES[slant is not None, weight is not None]
    slants = ("",) if slant is None else SLANTS[slant]
    weights = ("",) if weight is None else WEIGHTS[weight]
    filled = (
        template.format(digit=DIGITS[digit], slant=slant, weight=weight)
        for template, slant, weight in itertools.product(templates, slants, weights)
    )
    return tuple(_with_article(words) for words in filled)


def full_attributes() -> list[CaptionAttributes]:
    """Returns the 90 combinations of digit, slant and weight, ordered by digit."""
    combinations = itertools.product(range(len(DIGITS)), range(len(SLANTS)), range(len(WEIGHTS)))
    return [CaptionAttributes(*parts) for parts in combinations]


def all_captions() -> list[str]:
    """Returns every caption of the grammar."""
    slants, weights = (*range(len(SLANTS)), None), (*range(len(WEIGHTS)), None)
    combinations = itertools.product(range(len(DIGITS)), slants, weights)
    return [words for parts in combinations for words in paraphrases(CaptionAttributes(*parts))]


def sample(rng: np.random.Generator, labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns a random caption of every image, and the attributes that it mentions.

    The labels `[count, 3]` are digit, slant and weight of each image, as in `CaptionAttributes`.
    The attributes are `[count, 3]` int32, `NOT_MENTIONED` for the others.
    """
    count = len(labels)
    is_mentioned = np.column_stack(
        [np.ones(count, bool), rng.random((count, 2)) < MENTION_PROBABILITY]
    )
    mentioned = np.where(is_mentioned, labels, NOT_MENTIONED).astype(np.int32)
    options = [paraphrases(_attributes(row)) for row in mentioned.tolist()]
    uniform = rng.random(count)
    sampled = [of[int(u * len(of))] for of, u in zip(options, uniform, strict=True)]
    return sampled, mentioned


def _attributes(row: list[int]) -> CaptionAttributes:
    return CaptionAttributes(*(None if part == NOT_MENTIONED else part for part in row))


def _with_article(words: str) -> str:
    vowel = words.startswith("a ") and words[2] in "aeiou"
    return f"an {words[2:]}" if vowel else words
