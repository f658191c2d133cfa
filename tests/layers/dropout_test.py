import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers.dropout import Dropout, dropout


def example_keys(key, count):
    return jax.random.split(key, count)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_has_its_rate(key, rate):
    dropped = np.asarray(dropout(jnp.ones((8, 100, 125)), rate, example_keys(key, 8)))
    count = dropped.size
    # Four standard errors of a Bernoulli mean.
    bound = 4 * (rate * (1 - rate) / count) ** 0.5
    assert abs((dropped == 0).mean() - rate) < bound
    assert abs(dropped.mean() - 1) < bound / (1 - rate)
    assert np.unique(dropped).size == 2
    np.testing.assert_allclose(dropped.max(), 1 / (1 - rate), rtol=1e-4)


def test_examples_and_neighboring_elements_are_independent(key):
    kept = np.asarray(dropout(jnp.ones((2, 40_000)), 0.5, example_keys(key, 2))) > 0
    pairs = [
        (kept[0], kept[1]),
        (kept[0, ::2], kept[0, 1::2]),
        (kept[0, :20_000], kept[0, 20_000:]),
    ]
    for left, right in pairs:
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / left.size**0.5


def test_masks_of_a_batch_equal_those_of_its_slices(key):
    x = jax.random.normal(key, (6, 5, 3))
    keys = example_keys(key, 6)
    whole = dropout(x, 0.3, keys)
    halves = [dropout(x[s], 0.3, keys[s]) for s in (slice(0, 2), slice(2, 6))]
    np.testing.assert_array_equal(whole, jnp.concatenate(halves))
    single = dropout(x[3:4], 0.3, keys[3:4])
    np.testing.assert_array_equal(whole[3:4], single)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 5, 7), (1, 2)])
def test_odd_and_tiny_shapes(key, shape):
    x = jnp.full(shape, 2.0)
    dropped = dropout(x, 0.5, example_keys(key, shape[0]))
    chex.assert_equal_shape([x, dropped])
    assert set(np.unique(dropped)) <= {0.0, 4.0}


def test_gradient_flows_through_kept_elements_only(key):
    x = jax.random.normal(key, (2, 50))
    keys = example_keys(key, 2)
    gradient = jax.grad(lambda x: dropout(x, 0.4, keys).sum())(x)
    np.testing.assert_allclose(gradient, dropout(jnp.ones((2, 50)), 0.4, keys))


class Pair(nn.Module):
    def setup(self):
        self.first, self.second = Dropout(0.5), Dropout(0.5)

    def __call__(self, x, keys, subchunk):
        return self.first(x, keys, subchunk=subchunk), self.second(x, keys, subchunk=subchunk)


@pytest.mark.parametrize("subchunk", [None, 3])
def test_two_modules_have_independent_masks(key, subchunk):
    first, second = Pair().apply({}, jnp.ones((1, 1000)), example_keys(key, 1), subchunk)
    assert abs(float((first == second).mean()) - 0.5) < 0.1


class Chunked(nn.Module):
    def setup(self):
        self.dropout = Dropout(0.5)

    def __call__(self, x, keys):
        chunks = [self.dropout(x, keys, i, j) for i in range(2) for j in (None, 0, 1)]
        return chunks, self.dropout(x, keys)


def test_chunks_and_subchunks_have_independent_masks(key):
    chunks, whole = Chunked().apply({}, jnp.ones((1, 1000)), example_keys(key, 1))
    np.testing.assert_array_equal(chunks[0], whole)
    assert len(chunks) == 6
    for left, right in itertools.combinations(chunks, 2):
        assert abs(float((left == right).mean()) - 0.5) < 0.1


@pytest.mark.parametrize("rate", [1e-6, 0.999999])
def test_rates_close_to_0_and_1_are_finite(key, rate):
    dropped = np.asarray(dropout(jnp.ones((2, 1000)), rate, example_keys(key, 2)))
    assert np.isfinite(dropped).all()
    assert (dropped == 0).mean() == pytest.approx(rate, abs=0.01)


def test_without_keys_or_rate_the_input_is_returned(key):
    x = jax.random.normal(key, (2, 3))
    assert Dropout(0.5).apply({}, x, None) is x
    assert Dropout(0.0).apply({}, x, example_keys(key, 2)) is x
