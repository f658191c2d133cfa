import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers.ngram_embedding import ROWS, NgramEmbedding


def tokens_of(batch, time, vocabulary=5):
    return np.random.default_rng(0).integers(0, vocabulary, (batch, time)).astype(np.int32)


def nothing_before(batch, longest, vocabulary=5):
    return np.full((batch, longest - 1), vocabulary, np.int32)


def layer_of(longest, vocabulary=5):
    """A layer and its variables, with the tables moved away from zero."""
    layer = NgramEmbedding(vocabulary, 4, longest)
    tokens = tokens_of(1, 2)
    shapes = jax.eval_shape(
        layer.init, jax.random.key(0), tokens, nothing_before(1, longest, vocabulary)
    )
    rng = np.random.default_rng(1)
    return layer, jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(layer, variables, tokens, before):
    return layer.apply(variables, tokens, before)


def by_hand(variables, tokens, before, symbols):
    """Reads every run as a whole number in base `symbols` and brings that into the table."""
    text = np.concatenate([before, tokens], axis=1)
    longest = before.shape[1] + 1
    out = np.zeros((*tokens.shape, 4))
    for batch, time in np.ndindex(*tokens.shape):
        for length in range(2, longest + 1):
            end = time + longest
            digits = [int(token) for token in text[batch, end - length : end]]
            number = sum(digit * symbols**place for place, digit in enumerate(reversed(digits)))
            table = variables["params"][f"runs_of_{length}"]["embedding"]
            out[batch, time] += table[number % len(table)]
    return out


@pytest.mark.parametrize("longest", [2, 3, 4])
@pytest.mark.parametrize(("batch", "time"), [(3, 7), (1, 1), (1, 2)])
def test_sums_the_vectors_of_all_runs_that_end_here(longest, batch, time):
    layer, variables = layer_of(longest)
    tokens, before = tokens_of(batch, time), nothing_before(batch, longest)
    out = apply(layer, variables, tokens, before)
    chex.assert_shape(out, (batch, time, 4))
    np.testing.assert_allclose(out, by_hand(variables, tokens, before, 6), atol=1e-5)


def test_many_runs_share_rows():
    layer, variables = layer_of(3, vocabulary=65)
    sizes = {name: len(table["embedding"]) for name, table in variables["params"].items()}
    assert sizes == {"runs_of_2": 66**2, "runs_of_3": ROWS}
    tokens, before = tokens_of(2, 40, 65), nothing_before(2, 3, 65)
    out = apply(layer, variables, tokens, before)
    np.testing.assert_allclose(out, by_hand(variables, tokens, before, 66), atol=1e-5)


def test_rows_are_a_prime_and_shared_evenly():
    assert all(ROWS % divisor for divisor in range(2, 128))
    numbers = np.arange(66**3) % ROWS
    shared = np.bincount(numbers, minlength=ROWS)
    assert shared.max() - shared.min() <= 1


def test_a_text_read_in_two_parts_has_the_vectors_of_the_whole():
    layer, variables = layer_of(3)
    tokens = tokens_of(2, 6)
    whole = apply(layer, variables, tokens, nothing_before(2, 3))
    later = apply(layer, variables, tokens[:, 3:], tokens[:, 1:3])
    np.testing.assert_array_equal(later, whole[:, 3:])


def test_a_token_is_seen_where_its_runs_end_and_nowhere_else():
    layer, variables = layer_of(3)
    tokens, before = tokens_of(2, 8), nothing_before(2, 3)
    changed = tokens.copy()
    changed[:, 3] = (changed[:, 3] + 1) % 5
    one, other = (apply(layer, variables, text, before) for text in (tokens, changed))
    differs = np.abs(one - other).max(axis=-1) > 0
    np.testing.assert_array_equal(differs, np.broadcast_to([0, 0, 0, 1, 1, 1, 0, 0], (2, 8)))


def test_starts_at_zero(key):
    layer = NgramEmbedding(5, 4, 3)
    variables = layer.init(key, tokens_of(1, 2), nothing_before(1, 3))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(variables))
    assert len(jax.tree.leaves(variables)) == 2


def test_gradient_in_float64():
    layer, variables = layer_of(3)
    tokens, before = tokens_of(2, 5), nothing_before(2, 3)
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        check_grads(
            lambda variables: jnp.sin(layer.apply(variables, tokens, before)).sum(),
            (variables,),
            order=1,
            modes=["rev"],
        )
