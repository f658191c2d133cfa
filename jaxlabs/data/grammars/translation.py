"""A synthetic translation task: simple English, and a language of other word order and agreement.

    the big dogs that a girl sees chase some white birds
    lo kanes grandos ke una nenia vide umi avios blankos kasa ...

In the target language verbs are clause-final, adjectives follow their noun, and relative clauses
follow both; determiners and adjectives agree with their noun in gender and number, and verbs with
their subject in number. English has no gender and another order, so that word-by-word translation
fails. A sentence has exactly one translation: the optimal exact match is 100 %.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlabs.data.grammars import choose

TRAIN_LENGTHS, OOD_LENGTHS = range(4, 13), range(14, 23)
"""Source lengths in words, of training and test and of `long`, which nests clauses deeper."""

MAX_DEPTH = 3

NOUNS = {
    "dog": ("kan", "o"),
    "book": ("libr", "o"),
    "king": ("regn", "o"),
    "tree": ("arb", "o"),
    "girl": ("neni", "a"),
    "house": ("kas", "a"),
    "bird": ("avi", "a"),
    "moon": ("lun", "a"),
}
"""English noun -> stem and gender ending; the plural adds -s in both languages."""

ADJECTIVES = {"big": "grand", "white": "blank", "old": "vet", "good": "bon", "red": "ruj"}
VERBS = {"see": "vid", "chase": "kac", "love": "am", "find": "trov", "hear": "aud"}
"""English verb -> stem; singular: -s in English and -e in the target; plural: none and -en."""

DETERMINERS = {"the": "l", "this": "est"}
PLURAL = {"the": "the", "this": "these"}
THAT = "ke"


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun phrase: its words in both languages, and whether it is plural."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    plural: bool


def sample(rng: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns a sentence and its translation."""
    nested = 1 if lengths == TRAIN_LENGTHS else MAX_DEPTH
    while True:
        subject = _noun(rng, nested)
        verb, target_verb = _verb(rng, subject.plural)
        direct_object = _noun(rng, nested)
        source = [*subject.source, verb, *direct_object.source]
        if len(source) in lengths:
            return source, [*subject.target, *direct_object.target, target_verb]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the optimal metrics: every sentence has one translation."""
    return {"optimal_exact_match": 1.0, "optimal_bleu": 100.0}


def _noun(rng: np.random.Generator, nested: int) -> Noun:
    plural = bool(rng.random() < 0.5)
    determiner, noun = choose(rng, list(DETERMINERS)), choose(rng, list(NOUNS))
    stem, gender = NOUNS[noun]
    ending = gender + "s" * plural
    source = (PLURAL[determiner] if plural else determiner, noun + "s" * plural)
    target = (DETERMINERS[determiner] + ending, stem + ending)
    if rng.random() < 0.4:
        adjective = choose(rng, list(ADJECTIVES))
        source = (source[0], adjective, source[1])
        target = (*target, ADJECTIVES[adjective] + ending)
    if nested and rng.random() < 0.35:
        inner = _noun(rng, nested - 1)
        if rng.random() < 0.5:  # the dog that sees the girl
            verb, target_verb = _verb(rng, plural)
            source = (*source, "that", verb, *inner.source)
        else:  # the dog that the girl sees
            verb, target_verb = _verb(rng, inner.plural)
            source = (*source, "that", *inner.source, verb)
        target = (*target, THAT, *inner.target, target_verb)
    return Noun(source, target, plural)


def _verb(rng: np.random.Generator, plural: bool) -> tuple[str, str]:
    verb = choose(rng, list(VERBS))
    return (verb, VERBS[verb] + "en") if plural else (verb + "s", VERBS[verb] + "e")
