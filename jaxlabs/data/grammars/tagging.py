"""A synthetic named entity task with BIO tags, in which only the context disambiguates a name.

    we met young jordan today ; jordan , so they say , borders the sea .
    O  O   O     B-PER  O     O B-LOC  O ...

Every name may be a person (PER), a location (LOC) or an organization (ORG). The cue is a word
before it (`met`), a word after it (`jordan bank`, where `bank` is part of the name), a word after a
parenthesis or at the end of a list, or the span that contains it (`university of jordan` is one
ORG). The same words are outside of names elsewhere (`the bank`). Tags are deterministic, so that
the optimal span F1 is 100 %, while a word without context carries little information.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlabs.data.grammars import choose

TRAIN_LENGTHS, OOD_LENGTHS = range(4, 17), range(18, 33)
"""Sentence lengths in words, of training and test and of `long`."""

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
PARENTHESES = (", so they say ,", ", of course ,", ", it seems ,")
PRONOUNS = ("we", "they", "you")

Tagged = list[tuple[str, str]]


def sample(rng: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns the words of a sentence and their tags, with clauses up to a random length."""
    min_length = choose(rng, lengths)
    while True:
        pairs = _clause(rng)
        while len(pairs) + 1 < min_length:
            pairs += _outside(";") + _clause(rng)
        pairs += _outside(".")
        if len(pairs) in lengths:
            return [word for word, _ in pairs], [tag for _, tag in pairs]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the optimal metrics: tags are deterministic."""
    return {"optimal_span_f1": 1.0, "optimal_accuracy": 1.0}


def _clause(rng: np.random.Generator) -> Tagged:
    kinds = (_cue_after, _cue_before, _cue_in_ending, _nested, _listed)
    return choose(rng, kinds)(rng)


def _cue_after(rng: np.random.Generator) -> Tagged:
    kind = choose(rng, KINDS)
    parenthesis = choose(rng, PARENTHESES) if rng.random() < 0.5 else ""
    rest = f"{parenthesis} {choose(rng, VERBS_AFTER[kind])} {choose(rng, OBJECTS)}"
    return _span(kind, _name(rng)) + _outside(rest)


def _cue_before(rng: np.random.Generator) -> Tagged:
    kind = choose(rng, KINDS)
    rest = choose(rng, ("today", "again", ""))
    return _verb_before(rng, kind) + _span(kind, _name(rng)) + _outside(rest)


def _cue_in_ending(rng: np.random.Generator) -> Tagged:
    kind = choose(rng, list(ENDINGS))
    name = [*_name(rng), choose(rng, ENDINGS[kind])]
    if rng.random() < 0.5:  # the ending overrides the verb
        return _verb_before(rng, choose(rng, KINDS)) + _span(kind, name)
    return _span(kind, name) + _outside(f"is near {choose(rng, OBJECTS)}")


def _nested(rng: np.random.Generator) -> Tagged:
    name = _name(rng)
    if rng.random() < 0.5:
        where = _verb_before(rng, choose(rng, KINDS))
        return where + _span("ORG", ["university", "of", *name])
    return _outside("the judges of") + _span("LOC", name) + _outside("are here")


def _listed(rng: np.random.Generator) -> Tagged:
    kind = choose(rng, KINDS)
    names = [_span(kind, _name(rng)) for _ in range(2 + (rng.random() < 0.4))]
    listed = names[0]
    for link, name in zip([","] * (len(names) - 2) + ["and"], names[1:], strict=True):
        listed = listed + _outside(link) + name
    what = choose(rng, CLASSES[kind])
    if rng.random() < 0.5:
        return _outside(f"the {what}") + listed + _outside("are here")
    return listed + _outside(f"are {what}")


def _verb_before(rng: np.random.Generator, kind: str) -> Tagged:
    adjective = choose(rng, ADJECTIVES) if rng.random() < 0.4 else ""
    verb = choose(rng, VERBS_BEFORE[kind])
    return _outside(f"{choose(rng, PRONOUNS)} {verb} {adjective}")


def _name(rng: np.random.Generator) -> list[str]:
    return [choose(rng, NAMES) for _ in range(1 + (rng.random() < 0.3))]


def _span(kind: str, words: Sequence[str]) -> Tagged:
    first, *others = words
    return [(first, f"B-{kind}"), *((word, f"I-{kind}") for word in others)]


def _outside(words: str) -> Tagged:
    return [(word, "O") for word in words.split()]
