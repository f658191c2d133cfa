"""A synthetic sentiment task, in which the polarity of a word depends on the syntax above it.

    nobody says that the film that is dull is not good .                  positive
    the play is never boring but i doubt that the cast is great .         negative

A negation flips the polarity of its scope; two negations cancel; relative clauses do not count;
and of two clauses one decides: the clause after "but", or the clause without "although". The same
words in another order have the opposite label, so that a bag-of-words model fails. Labels are
deterministic: the optimal accuracy is 100 %.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlabs.data.grammars import choose

TRAIN_LENGTHS, OOD_LENGTHS = range(5, 17), range(18, 31)
"""Sentence lengths in words, of training and test and of `long`."""

LABELS = ("negative", "positive")
THINGS = ("film", "play", "book", "plot", "cast", "song")
ADJECTIVES = {
    True: ("good", "great", "fine", "clever", "charming"),
    False: ("bad", "dull", "weak", "boring", "silly"),
}
COPULAS = {"is": False, "is indeed": False, "is not": True, "is never": True, "is hardly": True}
"""Copulas, and whether they negate the adjective."""

FRAMES = {
    "i think that": False,
    "it is true that": False,
    "i do not doubt that": False,
    "i doubt that": True,
    "nobody says that": True,
    "it is not true that": True,
    "i do not think that": True,
}
"""Matrix clauses, and whether they negate the subordinate clause."""


def sample(rng: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns a sentence and its label; the maximum depth grows with the length."""
    max_depth = 1 + lengths[-1] // 8
    while True:
        words, positive = _sentence(rng, max_depth)
        if len(words) in lengths:
            return words, [LABELS[positive]]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the optimal metrics: labels are deterministic."""
    return {"optimal_accuracy": 1.0}


def _sentence(rng: np.random.Generator, max_depth: int) -> tuple[list[str], bool]:
    first, first_positive = _clause(rng, max_depth)
    kind = rng.random()
    if kind < 0.4:
        return [*first, "."], first_positive
    second, second_positive = _clause(rng, max_depth)
    if kind < 0.6:
        return [*first, "but", *second, "."], second_positive
    if kind < 0.8:
        return ["although", *first, ",", *second, "."], second_positive
    return [*first, "although", *second, "."], first_positive


def _clause(rng: np.random.Generator, max_depth: int) -> tuple[list[str], bool]:
    if max_depth and rng.random() < 0.5:
        frame, negates = choose(rng, list(FRAMES.items()))
        inner, positive = _clause(rng, max_depth - 1)
        return [*frame.split(), *inner], positive != negates
    subject = ["the", choose(rng, THINGS)]
    if rng.random() < 0.3:
        relative, _ = _predicate(rng)
        subject += ["that", *relative]
    predicate, positive = _predicate(rng)
    return subject + predicate, positive


def _predicate(rng: np.random.Generator) -> tuple[list[str], bool]:
    link, negates = choose(rng, list(COPULAS.items()))
    word_positive = bool(rng.random() < 0.5)
    word = choose(rng, ADJECTIVES[word_positive])
    return [*link.split(), word], word_positive != negates
