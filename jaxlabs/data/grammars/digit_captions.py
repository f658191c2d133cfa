"""Written descriptions of handwritten digits, in a grammar that knows what each of them claims.

    a slanted seven, bold
    a thin two
    the digit four, straight and medium

A description names the digit and may say how it leans and how heavy its stroke is. What it leaves
out it does not claim, so many descriptions are true of one picture and one description is true of
many. Which is chosen is a matter of known chances, and with it the best possible guess.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SLANTS = (("backward",), ("upright", "straight"), ("slanted", "leaning"))
"""Words for each third of the pictures, from those that lean left to those that lean right."""

WEIGHTS = (("thin", "light"), ("regular", "medium"), ("bold", "heavy"))
"""Words for each third of the pictures, by the thickness of the stroke."""

UNSAID = -1
"""Stands in arrays of claims for what is not said."""

SAID = 0.7
"""Chance that a description says how a digit leans, and, by itself, how heavy it is."""

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
"""By what is said, slant and weight: the sentences that say it."""


class Claim(NamedTuple):
    """What a description says: a digit, and a slant and a weight from 0 to 2, None if not said."""

    digit: int
    slant: int | None = None
    weight: int | None = None


@functools.cache
def wordings(claim: Claim) -> tuple[str, ...]:
    """Returns every description that makes this claim and no other; the plainest one first."""
    slants = ("",) if claim.slant is None else SLANTS[claim.slant]
    weights = ("",) if claim.weight is None else WEIGHTS[claim.weight]
    templates = TEMPLATES[claim.slant is not None, claim.weight is not None]
    filled = (
        template.format(digit=DIGITS[claim.digit], slant=slant, weight=weight)
        for template, slant, weight in itertools.product(templates, slants, weights)
    )
    return tuple(_with_article(words) for words in filled)


def full_claims() -> list[Claim]:
    """Returns the 90 claims that say everything, digit by digit."""
    everything = itertools.product(range(len(DIGITS)), range(len(SLANTS)), range(len(WEIGHTS)))
    return [Claim(*parts) for parts in everything]


def all_wordings() -> list[str]:
    """Returns every description that there is."""
    unsaid = (None,)
    slants, weights = (*range(len(SLANTS)), *unsaid), (*range(len(WEIGHTS)), *unsaid)
    claims = itertools.product(range(len(DIGITS)), slants, weights)
    return [words for parts in claims for words in wordings(Claim(*parts))]


def draw(generator: np.random.Generator, truths: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns a description of every picture, drawn at random, and what each claims.

    Args:
      generator: what the draws are made with.
      truths: [count, 3] all that is true of each picture, as `Claim` has it.

    Returns:
      The descriptions, and `[count, 3]` int32 what they claim, `UNSAID` where they say nothing.
    """
    count = len(truths)
    said = np.column_stack([np.ones(count, bool), generator.random((count, 2)) < SAID])
    claims = np.where(said, truths, UNSAID).astype(np.int32)
    options = [wordings(_claim(row)) for row in claims.tolist()]
    places = generator.random(count)
    drawn = [of[int(place * len(of))] for of, place in zip(options, places, strict=True)]
    return drawn, claims


def _claim(row: list[int]) -> Claim:
    return Claim(*(None if part == UNSAID else part for part in row))


def _with_article(words: str) -> str:
    vowel = words.startswith("a ") and words[2] in "aeiou"
    return f"an {words[2:]}" if vowel else words
