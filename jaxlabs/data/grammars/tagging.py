"""Sentences with names whose kind only their surroundings tell, tagged in BIO.

    we met young jordan today ; jordan , so they say , borders the sea .
    O  O   O     B-PER  O     O B-LOC  O ...

Every name may be a person's (PER), a place's (LOC) or a firm's (ORG). What tells is a word before
it (`met`), one after it (`jordan bank`, of which `bank` is then a part), one behind an aside or at
the far end of a list, or what it is nested in (`university of jordan` is one ORG). The same words
are no part of a name elsewhere (`the bank`). Nothing is left to chance, so that the best span F1
is 100 %, while a word by itself tells little.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

LENGTHS, LONGER = range(4, 17), range(18, 33)
"""Words of a sentence: in training and test, and in `longer`."""

KINDS = ("PER", "LOC", "ORG")
NAMES = ("jordan", "lincoln", "florence", "austin", "paris", "carter", "ford", "hudson")
VERBS_AFTER = {
    "PER": ("says", "smiles", "sleeps"),
    "LOC": ("borders", "surrounds", "faces"),
    "ORG": ("hires", "sells", "owes"),
}
OBJECTS = ("the sea", "the bank", "a lot", "the street", "many things")
VERBS_BEFORE = {
    "PER": ("met", "thanked", "phoned"),
    "LOC": ("visited", "left", "crossed"),
    "ORG": ("joined", "founded", "sued"),
}
ADJECTIVES = ("young", "old", "famous")
ENDINGS = {"ORG": ("bank", "group", "university"), "LOC": ("street", "valley", "river")}
CLASSES = {
    "PER": ("singers", "judges"),
    "LOC": ("cities", "islands"),
    "ORG": ("firms", "schools"),
}
ASIDES = (", so they say ,", ", of course ,", ", it seems ,")
PRONOUNS = ("we", "they", "you")

Tagged = list[tuple[str, str]]


def draw(generator: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns a sentence's words and their tags: clause after clause until it is long enough."""
    shortest = _one_of(generator, lengths)
    while True:
        pairs = _clause(generator)
        while len(pairs) + 1 < shortest:
            pairs += _outside(";") + _clause(generator)
        pairs += _outside(".")
        if len(pairs) in lengths:
            return [word for word, _ in pairs], [tag for _, tag in pairs]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns what is best possible: nothing is left to chance."""
    return {"optimal_span_f1": 1.0, "optimal_accuracy": 1.0}


def _clause(generator: np.random.Generator) -> Tagged:
    kinds = (_told_after, _told_before, _told_by_ending, _nested, _listed)
    return _one_of(generator, kinds)(generator)


def _told_after(generator: np.random.Generator) -> Tagged:
    kind = _one_of(generator, KINDS)
    aside = _one_of(generator, ASIDES) if generator.random() < 0.5 else ""
    rest = f"{aside} {_one_of(generator, VERBS_AFTER[kind])} {_one_of(generator, OBJECTS)}"
    return _span(kind, _name(generator)) + _outside(rest)


def _told_before(generator: np.random.Generator) -> Tagged:
    kind = _one_of(generator, KINDS)
    rest = _one_of(generator, ("today", "again", ""))
    return _before(generator, kind) + _span(kind, _name(generator)) + _outside(rest)


def _told_by_ending(generator: np.random.Generator) -> Tagged:
    kind = _one_of(generator, list(ENDINGS))
    name = [*_name(generator), _one_of(generator, ENDINGS[kind])]
    if generator.random() < 0.5:  # whatever the verb says otherwise
        return _before(generator, _one_of(generator, KINDS)) + _span(kind, name)
    return _span(kind, name) + _outside(f"is near {_one_of(generator, OBJECTS)}")


def _nested(generator: np.random.Generator) -> Tagged:
    name = _name(generator)
    if generator.random() < 0.5:
        where = _before(generator, _one_of(generator, KINDS))
        return where + _span("ORG", ["university", "of", *name])
    return _outside("the judges of") + _span("LOC", name) + _outside("are here")


def _listed(generator: np.random.Generator) -> Tagged:
    kind = _one_of(generator, KINDS)
    names = [_span(kind, _name(generator)) for _ in range(2 + (generator.random() < 0.4))]
    listed = names[0]
    for link, name in zip([","] * (len(names) - 2) + ["and"], names[1:], strict=True):
        listed = listed + _outside(link) + name
    what = _one_of(generator, CLASSES[kind])
    if generator.random() < 0.5:
        return _outside(f"the {what}") + listed + _outside("are here")
    return listed + _outside(f"are {what}")


def _before(generator: np.random.Generator, kind: str) -> Tagged:
    adjective = _one_of(generator, ADJECTIVES) if generator.random() < 0.4 else ""
    verb = _one_of(generator, VERBS_BEFORE[kind])
    return _outside(f"{_one_of(generator, PRONOUNS)} {verb} {adjective}")


def _name(generator: np.random.Generator) -> list[str]:
    return [_one_of(generator, NAMES) for _ in range(1 + (generator.random() < 0.3))]


def _span(kind: str, words: Sequence[str]) -> Tagged:
    first, *others = words
    return [(first, f"B-{kind}"), *((word, f"I-{kind}") for word in others)]


def _outside(words: str) -> Tagged:
    return [(word, "O") for word in words.split()]


def _one_of(generator: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(generator.random() * len(choices))]
