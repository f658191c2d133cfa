import chex
import jax
import numpy as np
import pytest

from jaxlabs.labs.sequence_patterns.sequence_scores import spans
from jaxlabs.losses.spans import span_counts, span_f1

TAGS = ("<pad>", "O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def counts_of(predicted, gold, valid=None):
    tags = [np.array([[TAGS.index(t) for t in row.split()]]) for row in (predicted, gold)]
    valid = np.ones(tags[0].shape, bool) if valid is None else np.array([valid], bool)
    counts = jax.jit(lambda *a: span_counts(*a, TAGS))(*tags, valid)
    for count in counts.values():
        chex.assert_shape(count, (1,))
    return [int(counts[f"spans_{name}"][0]) for name in ("correct", "predicted", "gold")]


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", [2, 2, 2]),
        ("B-PER O O B-LOC", "B-PER I-PER O B-LOC", [1, 2, 2]),  # too short
        ("B-PER I-PER I-PER O", "B-PER I-PER O O", [0, 1, 1]),  # too long
        ("B-LOC I-LOC O O", "B-PER I-PER O O", [0, 1, 1]),  # wrong kind
        ("B-PER B-PER O O", "B-PER I-PER O O", [0, 2, 1]),  # split in two
        ("B-PER I-PER O O", "B-PER B-PER O O", [0, 1, 2]),  # two merged
        ("O I-PER I-PER O", "O B-PER I-PER O", [1, 1, 1]),  # an I without a B starts a span
        ("B-PER I-LOC O O", "B-PER B-LOC O O", [2, 2, 2]),  # so does an I of another kind
        ("O O O O", "O O O O", [0, 0, 0]),
        ("O O O B-LOC", "O O O B-LOC", [1, 1, 1]),
    ],
)
def test_span_counts_of_examples(predicted, gold, expected):
    assert counts_of(predicted, gold) == expected


@pytest.mark.parametrize("time", [1, 2, 9])
def test_span_counts_of_a_batch_equal_those_of_lists(time):
    rng = np.random.default_rng(0)
    tags = (*TAGS, "E-PER")  # neither B nor I: outside
    predicted, gold = rng.integers(1, len(tags), (2, 50, time))
    valid = np.arange(time) < rng.integers(0, time + 1, (50, 1))  # some rows are all padding
    counts = span_counts(predicted, gold, valid, tags)
    for row in range(50):
        ours, true = (
            set(spans([tags[i] for i in np.where(valid, batch, 1)[row]]))
            for batch in (predicted, gold)
        )
        expected = len(ours & true), len(ours), len(true)
        found = (counts[f"spans_{name}"][row] for name in ("correct", "predicted", "gold"))
        assert tuple(map(int, found)) == expected


def test_padding_ends_a_span_and_contains_none():
    gold = "B-PER I-PER <pad> <pad>"
    assert counts_of("B-PER I-PER I-PER B-LOC", gold, [1, 1, 0, 0]) == [1, 1, 1]
    assert counts_of("B-PER I-PER I-PER B-LOC", gold, [0, 0, 0, 0]) == [0, 0, 0]


def test_f1_is_the_harmonic_mean():
    precision, recall = 2 / 4, 2 / 3
    assert span_f1(2, 4, 3) == pytest.approx(2 * precision * recall / (precision + recall))
    assert span_f1(0, 0, 0) == 0
