"""A probabilistic grammar for next-word prediction, with exact next-word distributions.

A verb agrees with its subject in number, and its distribution depends on the kind of subject.
Distractor nouns and nested relative clauses separate subject and verb:

    these dogs that every teacher near the old clock paints run .

The distribution of the next word depends on a state that the previous words determine, so that it
is known exactly, and with it the Bayes accuracy.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TRAIN_LENGTHS, OOD_LENGTHS = range(5, 13), range(14, 23)
"""Context lengths in words, of training and test and of `long`."""

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
"""Verb stems and their probabilities, by kind of subject."""

MAX_DEPTH = 3
"""Maximum number of subjects whose verbs are pending."""


class State(NamedTuple):
    """State of the grammar after the previous words."""

    expects: str = "determiner"  #: part of speech of the next word
    #: number and kind of the subjects whose verbs are pending, the innermost last
    pending: tuple[tuple[str, str], ...] = ()
    subject: bool = True  #: whether the current noun phrase is a subject
    number: str = "any"  #: "one", "many" or "any", given its determiner


@functools.cache
def continuations(state: State) -> tuple[tuple[str, float, State], ...]:
    """Returns every possible next word, its probability and the next state."""
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
                pending = state.pending + (((number, kind),) if state.subject else ())
                expects = "after_subject" if state.subject else "after_distractor"
                after = State(expects, pending, False, "any")
                yield stem + "s" * (number == "many"), 1 / 9 / len(numbers), after


def _after_subject(state: State):
    relative = 0.15 if len(state.pending) < MAX_DEPTH else 0.0
    yield "that", relative, State("determiner", state.pending, True)
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
        yield word, share * p, State("determiner", state.pending, False)


def _verb(state: State, share: float):
    number, kind = state.pending[-1]
    pending = state.pending[:-1]
    after = State("after_relative" if pending else "end", pending, False)
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
    """Returns the state after the first words of a sentence.

    Raises:
      ValueError: no sentence starts with these words.
    """
    state = State()
    for word in words:
        after = {one: following for one, _, following in continuations(state)}
        if word not in after:
            raise ValueError(f"{word!r} cannot follow there in {' '.join(words)!r}")
        state = after[word]
    return state


def next_word_probs(words: Sequence[str]) -> dict[str, float]:
    """Returns the probability of each possible next word."""
    return {word: p for word, p, _ in continuations(state_after(words))}


def sample(rng: np.random.Generator, lengths: range) -> tuple[list[str], list[str]]:
    """Returns the first words of a sentence and the next word.

    The length is sampled first, independently of the sentence; shorter sentences are rejected. So
    the length carries no information about the next word.
    """
    length = lengths[int(rng.integers(len(lengths)))]
    while True:
        words, state = [], State()
        while len(words) <= length and state.expects != "nothing":
            word, state = _sample_word(state, rng.random())
            words.append(word)
        if len(words) == length + 1:
            return words[:-1], words[-1:]


def optimum(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the optimal metrics on some examples, by name.

    `bayes_accuracy`: expected accuracy of predicting the most likely next word;
    `optimal_accuracy`: its accuracy on these examples; `entropy`: the lowest reachable expected
    loss in nats; `optimal_loss`: the loss of the true distribution on these examples.
    """
    probs = [next_word_probs(words) for words in sources]
    predicted = [max(p, key=p.get) for p in probs]
    words = [target[0] for target in targets]
    hits = [prediction == word for prediction, word in zip(predicted, words, strict=True)]
    nll = [-np.log(p[word]) for p, word in zip(probs, words, strict=True)]
    entropies = [-sum(p * np.log(p) for p in one.values()) for one in probs]
    return {
        "bayes_accuracy": float(np.mean([max(p.values()) for p in probs])),
        "optimal_accuracy": float(np.mean(hits)),
        "entropy": float(np.mean(entropies)),
        "optimal_loss": float(np.mean(nll)),
    }


def _sample_word(state: State, uniform: float) -> tuple[str, State]:
    for word, p, after in continuations(state):
        uniform -= p
        if uniform < 0:
            return word, after
    return word, after
