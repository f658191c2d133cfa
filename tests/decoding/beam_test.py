import dataclasses
import itertools

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.config import ArgumentError
from jaxlabs.decoding.beam import beam_search
from jaxlabs.decoding.generate import generate

VOCABULARY, FEATURES, STOP = 4, 5, 3
START = np.array([1, 2, 1])
TRACED = []


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """`h <- tanh(h @ recurrent + embedding[token])`; a step counter is a scalar of the carry."""

    context_length: int | None = None

    def init_carry(self, batch_size):
        return {"hidden": jnp.zeros((batch_size, FEATURES)), "time": jnp.int32(0)}

    def step(self, params, carry, tokens):
        TRACED.append(self)
        projected = carry["hidden"] @ params["recurrent"]
        hidden = jnp.tanh(projected + params["embedding"][tokens])
        logits = hidden @ params["head"] + jnp.cos(carry["time"] * params["phase"])[None, :]
        return {"hidden": hidden, "time": carry["time"] + 1}, logits

    def prefill(self, params, tokens):
        raise AssertionError("not called: the carry is never full")


@pytest.fixture(scope="module")
def params():
    normal = np.random.default_rng(8).normal
    return {
        "recurrent": 0.7 * normal(size=(FEATURES, FEATURES)).astype(np.float32),
        "embedding": normal(size=(VOCABULARY, FEATURES)).astype(np.float32),
        "head": 2 * normal(size=(FEATURES, VOCABULARY)).astype(np.float32),
        "phase": np.arange(VOCABULARY, dtype=np.float32),
    }


def log_probabilities(params, tokens, hidden):
    """`log P(next)`, `[vocabulary]`, after tokens, by numpy in float64."""
    for token in tokens:
        hidden = np.tanh(hidden @ params["recurrent"] + params["embedding"][token])
    logits = hidden @ params["head"] + np.cos((len(tokens) - 1) * params["phase"])
    return logits - np.log(np.exp(logits).sum())


def python_search(params, start, beam_size, steps, length_penalty, hidden):
    """The same search in Python."""

    def score_of(found):
        tokens, score = found
        return score / max(len(tokens), 1) ** length_penalty

    kept = [((), 0.0)]
    for _ in range(steps):
        candidates = []
        for tokens, score in kept:
            if tokens and tokens[-1] == STOP:
                candidates.append((tokens, score))
                continue
            log_probs = log_probabilities(params, (start, *tokens), hidden)
            candidates += [
                ((*tokens, token), score + log_probs[token]) for token in range(VOCABULARY)
            ]
        kept = sorted(candidates, key=score_of, reverse=True)[:beam_size]
    return [(tokens, score_of((tokens, score))) for tokens, score in kept]


def every_sequence(params, start, steps, length_penalty, hidden):
    """All finished sequences of up to `steps` tokens, best first."""
    found = []
    for length in range(1, steps + 1):
        for tokens in itertools.product(range(VOCABULARY), repeat=length):
            if STOP in tokens[:-1] or (length < steps and tokens[-1] != STOP):
                continue
            token_log_probs = [
                log_probabilities(params, (start, *tokens[:i]), hidden)[token]
                for i, token in enumerate(tokens)
            ]
            found.append((tokens, sum(token_log_probs) / length**length_penalty))
    return sorted(found, key=lambda one: -one[1])


def found_by(beams, row):
    return [
        (tuple(tokens[:length].tolist()), float(score))
        for tokens, length, score in zip(*(np.asarray(array[row]) for array in beams), strict=True)
    ]


def assert_same(ours, expected):
    assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in expected]
    np.testing.assert_allclose([s for _, s in ours], [s for _, s in expected], atol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_beam_search_equals_a_python_implementation(params, beam_size, length_penalty):
    hidden = np.random.default_rng(5).normal(size=(3, FEATURES)).astype(np.float32)
    carry = Recurrence().init_carry(3) | {"hidden": jnp.asarray(hidden)}
    beams = beam_search(
        Recurrence(6),
        params,
        START,
        beam_size=beam_size,
        max_new_tokens=6,
        stop_token=STOP,
        length_penalty=length_penalty,
        carry=carry,
    )
    chex.assert_shape(beams.tokens, (3, beam_size, 6))
    for row, start in enumerate(START):
        assert_same(
            found_by(beams, row),
            python_search(params, start, beam_size, 6, length_penalty, hidden[row]),
        )
    past = np.arange(6) >= np.asarray(beams.lengths)[:, :, None]
    assert (np.asarray(beams.tokens)[past] == 0).all()
    assert len(set(np.asarray(beams.lengths).ravel().tolist())) > 1  # some are shorter


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_full_beam_is_exhaustive(params, length_penalty):
    beams = beam_search(
        Recurrence(),
        params,
        START,
        beam_size=200,
        max_new_tokens=4,
        stop_token=STOP,
        length_penalty=length_penalty,
    )
    for row, start in enumerate(START):
        expected = every_sequence(params, start, 4, length_penalty, np.zeros(FEATURES))
        found = found_by(beams, row)
        assert_same(found[: len(expected)], expected)
        assert all(score == -np.inf for _, score in found[len(expected) :])
        if length_penalty == 0:
            assert sum(np.exp(score) for _, score in found) == pytest.approx(1, abs=1e-5)


def test_beam_size_one_equals_greedy_generation(params, key):
    options = {"max_new_tokens": 6, "stop_token": STOP}
    tokens, lengths = generate(
        Recurrence(), params, START[:, None], np.ones(3), key, temperature=0.0, **options
    )
    beams = beam_search(Recurrence(), params, START, beam_size=1, **options)
    np.testing.assert_array_equal(beams.tokens[:, 0], tokens[:, 1:])
    np.testing.assert_array_equal(beams.lengths[:, 0], lengths - 1)


def test_generation_starts_from_a_given_carry(params, key):
    hidden = np.random.default_rng(5).normal(size=(3, FEATURES)).astype(np.float32)
    carry = Recurrence().init_carry(3) | {"hidden": jnp.asarray(hidden)}
    options = {"max_new_tokens": 6, "temperature": 0.0, "stop_token": STOP, "carry": carry}
    tokens, lengths = generate(Recurrence(), params, START[:, None], np.ones(3), key, **options)
    for row, start in enumerate(START):
        ((expected, _),) = python_search(params, start, 1, 6, 0.0, hidden[row])
        assert tuple(np.asarray(tokens)[row, 1 : lengths[row]].tolist()) == expected


def test_without_a_stop_token_all_beams_are_full(params):
    beams = beam_search(Recurrence(), params, START, beam_size=2, max_new_tokens=3)
    assert (np.asarray(beams.lengths) == 3).all()


def test_a_new_stop_token_or_length_penalty_does_not_recompile(params):
    options = {"beam_size": 2, "max_new_tokens": 3}
    beam_search(Recurrence(), params, START, **options)
    traced = len(TRACED)
    beam_search(Recurrence(), params, START, stop_token=1, length_penalty=2, **options)
    assert len(TRACED) == traced


def test_invalid_arguments_are_refused(params):
    with pytest.raises(
        ArgumentError, match=r"^beam_size: 0 is not accepted; an integer of at least 1"
    ):
        beam_search(Recurrence(), params, START, beam_size=0, max_new_tokens=3)
    for steps in (0, 7):
        with pytest.raises(ValueError, match=f"max_new_tokens: {steps} is not one of 1 to"):
            beam_search(Recurrence(6), params, START, beam_size=1, max_new_tokens=steps)
