"""Sentences that praise or blame, where a word's sense depends on what it stands under.

    nobody says that the film that is dull is not good .                  positive
    the play is never boring but i doubt that the cast is great .         negative

A negation turns what is in its scope and nothing else; two of them cancel; what is said of a thing
in a relative clause is beside the point; and of two clauses one decides: the one after "but", the
one that does not begin with "although". The same words in another order mean the opposite, so that
who only counts them fails; who reads them has no doubt, and the optimum is 100 %.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

LENGTHS, LONGER = range(5, 17), range(18, 31)
"""Words of a sentence: in training and test, and in `longer`."""

LABELS = ("negative", "positive")
THINGS = ("film", "play", "book", "plot", "cast", "song")
ADJECTIVES = {
    True: ("good", "great", "fine", "clever", "charming"),
    False: ("bad", "dull", "weak", "boring", "silly"),
}
SAYS = {"is": False, "is indeed": False, "is not": True, "is never": True, "is hardly": True}
"""What links a thing to what is said of it, and whether it turns that round."""

FRAMES = {
    "i think that": False,
    "it is true that": False,
    "i do not doubt that": False,
    "i doubt that": True,
    "nobody says that": True,
    "it is not true that": True,
    "i do not think that": True,
}
"""What a clause may stand under, and whether it turns the clause round."""


def draw(generator: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns a sentence and its label; where longer ones are asked for, they may nest deeper."""
    deepest = 1 + lengths[-1] // 8
    while True:
        words, positive = _sentence(generator, deepest)
        if len(words) in lengths:
            return words, [LABELS[positive]]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns what is best possible: nothing is left to chance."""
    return {"optimal_accuracy": 1.0}


def _sentence(generator: np.random.Generator, deepest: int) -> tuple[list[str], bool]:
    first, first_positive = _clause(generator, deepest)
    kind = generator.random()
    if kind < 0.4:
        return [*first, "."], first_positive
    second, second_positive = _clause(generator, deepest)
    if kind < 0.6:
        return [*first, "but", *second, "."], second_positive
    if kind < 0.8:
        return ["although", *first, ",", *second, "."], second_positive
    return [*first, "although", *second, "."], first_positive


def _clause(generator: np.random.Generator, deepest: int) -> tuple[list[str], bool]:
    if deepest and generator.random() < 0.5:
        frame, turns = _one_of(generator, list(FRAMES.items()))
        inner, positive = _clause(generator, deepest - 1)
        return [*frame.split(), *inner], positive != turns
    subject = ["the", _one_of(generator, THINGS)]
    if generator.random() < 0.3:
        aside, _ = _said(generator)
        subject += ["that", *aside]
    said, positive = _said(generator)
    return subject + said, positive


def _said(generator: np.random.Generator) -> tuple[list[str], bool]:
    link, turns = _one_of(generator, list(SAYS.items()))
    word_positive = bool(generator.random() < 0.5)
    word = _one_of(generator, ADJECTIVES[word_positive])
    return [*link.split(), word], word_positive != turns


def _one_of(generator: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(generator.random() * len(choices))]
