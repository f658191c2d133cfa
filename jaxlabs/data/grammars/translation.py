"""A made-up pair of languages: English with fewer words, and one that orders and agrees otherwise.

    the big dogs that a girl sees chase some white birds
    lo kanes grandos ke una nenia vide umi avios blankos kasa ...

In the target language a verb stands at the end of its clause, an adjective after its noun, a
relative clause after both; determiner and adjective agree with their noun in gender and number,
and a verb with its subject in number. English shows no gender and moves none of its words, so that
who goes word by word fails. A sentence has exactly one translation: the best exact match is 100 %.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

LENGTHS, LONGER = range(4, 13), range(14, 23)
"""Source words: in training and test, and in `longer`, where relative clauses nest deeper."""

DEEPEST = 3

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
"""English noun -> stem and ending that shows its gender; many: an s on both sides."""

ADJECTIVES = {"big": "grand", "white": "blank", "old": "vet", "good": "bon", "red": "ruj"}
VERBS = {"see": "vid", "chase": "kac", "love": "am", "find": "trov", "hear": "aud"}
"""English verb -> stem; one subject: -s in English and -e in the target, many: nothing and -en."""

DETERMINERS = {"the": "l", "this": "est"}
MANY = {"the": "the", "this": "these"}
THAT = "ke"


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun phrase: its words in both languages, and its number."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    many: bool


def draw(generator: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns a sentence and its translation."""
    nested = 1 if lengths == LENGTHS else DEEPEST
    while True:
        subject = _noun(generator, nested)
        verb, wanted = _verb(generator, subject.many)
        found = _noun(generator, nested)
        source = [*subject.source, verb, *found.source]
        if len(source) in lengths:
            return source, [*subject.target, *found.target, wanted]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns what is best possible: every sentence has one translation."""
    return {"optimal_exact_match": 1.0, "optimal_bleu": 100.0}


def _noun(generator: np.random.Generator, nested: int) -> Noun:
    many = bool(generator.random() < 0.5)
    determiner, noun = _one_of(generator, list(DETERMINERS)), _one_of(generator, list(NOUNS))
    stem, gender = NOUNS[noun]
    ending = gender + "s" * many
    source = (MANY[determiner] if many else determiner, noun + "s" * many)
    target = (DETERMINERS[determiner] + ending, stem + ending)
    if generator.random() < 0.4:
        adjective = _one_of(generator, list(ADJECTIVES))
        source = (source[0], adjective, source[1])
        target = (*target, ADJECTIVES[adjective] + ending)
    if nested and generator.random() < 0.35:
        inner = _noun(generator, nested - 1)
        if generator.random() < 0.5:  # the dog that sees the girl
            verb, wanted = _verb(generator, many)
            source = (*source, "that", verb, *inner.source)
        else:  # the dog that the girl sees
            verb, wanted = _verb(generator, inner.many)
            source = (*source, "that", *inner.source, verb)
        target = (*target, THAT, *inner.target, wanted)
    return Noun(source, target, many)


def _verb(generator: np.random.Generator, many: bool) -> tuple[str, str]:
    verb = _one_of(generator, list(VERBS))
    return (verb, VERBS[verb] + "en") if many else (verb + "s", VERBS[verb] + "e")


def _one_of(generator: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(generator.random() * len(choices))]
