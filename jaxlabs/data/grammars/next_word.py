"""Sentences in which the next word is a matter of chance, but of known chances.

A verb agrees with its own subject in number, and prefers what that kind of subject does; between
the two stand other nouns, and relative clauses with subjects and verbs of their own:

    these dogs that every teacher near the old clock paints run .

What may follow depends on nothing but the words before, through a state that they determine, so
the chance of every next word is known exactly, and with it the best possible guess.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LENGTHS, LONGER = range(5, 13), range(14, 23)
"""Words that are read before the one to be guessed: in training and test, and in `longer`."""

NOUNS = {
    "person": ("teacher", "pilot", "nurse"),
    "animal": ("dog", "horse", "bird"),
    "machine": ("engine", "robot", "clock"),
}
ADJECTIVES = ("old", "small", "red")
PREPOSITIONS = {"near": 0.4, "behind": 0.3, "with": 0.2, "under": 0.1}
VERBS = {
    "person": {"paint": 0.65, "sleep": 0.2, "hum": 0.15},
    "animal": {"run": 0.65, "sleep": 0.25, "hum": 0.1},
    "machine": {"hum": 0.65, "stop": 0.2, "run": 0.15},
}
"""What subjects of each kind do, without the -s of a single one, and how likely."""

DEEPEST = 3
"""Subjects that may wait for their verbs at once."""

Phrase = tuple[str, str, bool]
"""A noun as (kind, "one" or "many", whether it is a subject)."""


class State(NamedTuple):
    """What the words so far leave open.

    Attributes:
      expects: which part of speech comes next.
      waiting: number and kind of the subjects whose verbs have not come yet, the innermost last.
      subject: whether the noun phrase under way is a subject.
      number: "one", "many" or "any", by its determiner.
    """

    expects: str = "determiner"
    waiting: tuple[tuple[str, str], ...] = ()
    subject: bool = True
    number: str = "any"


@functools.cache
def continuations(state: State) -> tuple[tuple[str, float, State], ...]:
    """Returns every possible next word with its probability and the state after it."""
    return tuple((word, p, after) for word, p, after in _RULES[state.expects](state) if p > 0)


def _determiner(state: State):
    noun = state._replace(expects="adjective")
    yield "the", 0.6, noun._replace(number="any")
    yield "every", 0.2, noun._replace(number="one")
    yield "these", 0.2, noun._replace(number="many")


def _adjective(state: State):
    for word in ADJECTIVES:
        yield word, 0.25 / len(ADJECTIVES), state._replace(expects="noun")
    for word, p, after in _noun(state):
        yield word, 0.75 * p, after


def _noun(state: State):
    numbers = ("one", "many") if state.number == "any" else (state.number,)
    for kind, stems in NOUNS.items():
        for stem in stems:
            for number in numbers:
                waiting = state.waiting + (((number, kind),) if state.subject else ())
                expects = "after_subject" if state.subject else "after_distractor"
                after = State(expects, waiting, False, "any")
                yield stem + "s" * (number == "many"), 1 / 9 / len(numbers), after


def _after_subject(state: State):
    relative = 0.15 if len(state.waiting) < DEEPEST else 0.0
    yield "that", relative, State("determiner", state.waiting, True)
    yield from _preposition(state, 0.35)
    yield from _verb(state, 0.65 - relative)


def _after_distractor(state: State):
    yield from _preposition(state, 0.25)
    yield from _verb(state, 0.75)


def _after_relative(state: State):
    yield from _preposition(state, 0.2)
    yield from _verb(state, 0.8)


def _preposition(state: State, share: float):
    for word, p in PREPOSITIONS.items():
        yield word, share * p, State("determiner", state.waiting, False)


def _verb(state: State, share: float):
    number, kind = state.waiting[-1]
    waiting = state.waiting[:-1]
    after = State("after_relative" if waiting else "end", waiting, False)
    for stem, p in VERBS[kind].items():
        yield stem + "s" * (number == "one"), share * p, after


def _end(state: State):
    yield ".", 0.4, State("nothing")
    yield "and", 0.35, State()
    yield "while", 0.25, State()


_RULES = {
    "determiner": _determiner,
    "adjective": _adjective,
    "noun": _noun,
    "after_subject": _after_subject,
    "after_distractor": _after_distractor,
    "after_relative": _after_relative,
    "end": _end,
    "nothing": lambda state: (),
}


def state_after(words: Sequence[str]) -> State:
    """Returns the state that words from a sentence's beginning leave.

    Raises:
      ValueError: no sentence begins with these words.
    """
    state = State()
    for word in words:
        after = {one: following for one, _, following in continuations(state)}
        if word not in after:
            raise ValueError(f"{word!r} cannot follow there in {' '.join(words)!r}")
        state = after[word]
    return state


def chances(words: Sequence[str]) -> dict[str, float]:
    """Returns how likely each word is to follow, by word."""
    return {word: p for word, p, _ in continuations(state_after(words))}


def draw(generator: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns the beginning of a sentence and the word that follows it.

    How long the beginning is, is drawn first and regardless of the sentence; one that is too short
    is thrown away. So nothing about the next word is told by where a sentence is cut.
    """
    length = lengths[int(generator.integers(len(lengths)))]
    while True:
        words, state = [], State()
        while len(words) <= length and state.expects != "nothing":
            word, state = _drawn(state, generator.random())
            words.append(word)
        if len(words) == length + 1:
            return words[:-1], words[-1:]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns what is best possible on some examples, by name.

    `bayes_accuracy`: how often the likeliest next word is expected to come, given what was read;
    `optimal_accuracy`: how often it did come in these examples; `entropy`: the lowest reachable
    expected loss in nats; `optimal_loss`: the loss of the true chances on these examples.
    """
    known = [chances(words) for words in sources]
    likeliest = [max(p, key=p.get) for p in known]
    words = [target[0] for target in targets]
    hits = [guess == word for guess, word in zip(likeliest, words, strict=True)]
    surprise = [-np.log(p[word]) for p, word in zip(known, words, strict=True)]
    entropies = [-sum(p * np.log(p) for p in one.values()) for one in known]
    return {
        "bayes_accuracy": float(np.mean([max(p.values()) for p in known])),
        "optimal_accuracy": float(np.mean(hits)),
        "entropy": float(np.mean(entropies)),
        "optimal_loss": float(np.mean(surprise)),
    }


def _drawn(state: State, chance: float) -> tuple[str, State]:
    for word, p, after in continuations(state):
        chance -= p
        if chance < 0:
            return word, after
    return word, after
