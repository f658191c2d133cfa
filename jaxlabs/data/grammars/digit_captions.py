"""A grammar of captions of handwritten digits, in which the claims of every caption are known.

    a slanted seven, bold
    a thin two
    the digit four, straight and medium

A caption names the digit, and with known probability its slant and its stroke weight. It claims
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

UNSAID = -1
"""Value in arrays of claims for an attribute that is not mentioned."""

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


class Claim(NamedTuple):
    """Claims of a caption: digit, and slant and weight from 0 to 2, None if not mentioned."""

    digit: int
    slant: int | None = None
    weight: int | None = None


@functools.cache
def wordings(claim: Claim) -> tuple[str, ...]:
    """Returns every caption with exactly these claims, the plainest first."""
    slants = ("",) if claim.slant is None else SLANTS[claim.slant]
    weights = ("",) if claim.weight is None else WEIGHTS[claim.weight]
    templates = TEMPLATES[claim.slant is not None, claim.weight is not None]
    filled = (
        template.format(digit=DIGITS[claim.digit], slant=slant, weight=weight)
        for template, slant, weight in itertools.product(templates, slants, weights)
    )
    return tuple(_with_article(words) for words in filled)


def full_claims() -> list[Claim]:
    """Returns the 90 claims with slant and weight, ordered by digit."""
    combinations = itertools.product(range(len(DIGITS)), range(len(SLANTS)), range(len(WEIGHTS)))
    return [Claim(*parts) for parts in combinations]


def all_wordings() -> list[str]:
    """Returns every caption of the grammar."""
    unsaid = (None,)
    slants, weights = (*range(len(SLANTS)), *unsaid), (*range(len(WEIGHTS)), *unsaid)
    claims = itertools.product(range(len(DIGITS)), slants, weights)
    return [words for parts in claims for words in wordings(Claim(*parts))]


def sample(generator: np.random.Generator, truths: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns a random caption of every image, and its claims.

    Args:
      generator: random generator.
      truths: `[count, 3]` digit, slant and weight of each image, as in `Claim`.

    Returns:
      The captions, and their claims `[count, 3]` int32, `UNSAID` for attributes not mentioned.
    """
    count = len(truths)
    mentioned = np.column_stack(
        [np.ones(count, bool), generator.random((count, 2)) < MENTION_PROBABILITY]
    )
    claims = np.where(mentioned, truths, UNSAID).astype(np.int32)
    options = [wordings(_claim(row)) for row in claims.tolist()]
    uniform = generator.random(count)
    sampled = [of[int(u * len(of))] for of, u in zip(options, uniform, strict=True)]
    return sampled, claims


def _claim(row: list[int]) -> Claim:
    return Claim(*(None if part == UNSAID else part for part in row))


def _with_article(words: str) -> str:
    vowel = words.startswith("a ") and words[2] in "aeiou"
    return f"an {words[2:]}" if vowel else words
