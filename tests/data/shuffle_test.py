"""`shuffle_index` is a permutation, uniform over all orders."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import stats

from jaxlabs.data.shuffle import ROUNDS, shuffle_index


def orders(count: int, samples: int, seed: int) -> np.ndarray:
    """Returns `[samples, count]`, one permutation per key."""
    keys = jax.random.split(jax.random.key(seed), samples)
    return np.asarray(
        jax.jit(jax.vmap(lambda key: shuffle_index(np.arange(count), count, key)))(keys)
    )


def murmur_finalizer(word: int) -> int:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word ^= word >> shift
        word = word * factor % 2**32
    return word ^ word >> 16


def reference(index: int, count: int, round_keys: list[int]) -> int:
    """The cipher on Python integers, one index at a time."""
    rows = math.ceil(math.sqrt(count))
    rows += rows % 2
    columns = math.ceil(count / rows)
    while True:
        row, column = divmod(index, columns)
        for even, odd in zip(round_keys[::2], round_keys[1::2], strict=True):
            row = (row + murmur_finalizer(column ^ even) % rows) % rows
            column = (column + murmur_finalizer(row ^ odd) % columns) % columns
        index = row * columns + column
        if index < count:
            return index


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 60_000])
def test_every_index_comes_exactly_once(count, key):
    order = shuffle_index(np.arange(count), count, key)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


@pytest.mark.parametrize("count", [1, 37])
def test_equals_the_reference_cipher(count, key):
    round_keys = np.asarray(jax.random.bits(key, (ROUNDS,), np.uint32)).tolist()
    expected = [reference(index, count, round_keys) for index in range(count)]
    np.testing.assert_array_equal(shuffle_index(np.arange(count), count, key), expected)


def test_reference_hash_is_murmur3():
    # Zero is a fixed point of the finalizer; the value at 1 is that of the published C code.
    assert murmur_finalizer(0) == 0
    assert murmur_finalizer(1) == 0x514E28B7


@pytest.mark.parametrize("count", [3, 4])
def test_every_order_of_a_tiny_set_is_equally_likely(count):
    sampled = orders(count, samples=12_000, seed=count)
    names = sampled @ count ** np.arange(count)
    all_names = [np.dot(p, count ** np.arange(count)) for p in itertools.permutations(range(count))]
    times = [(names == name).sum() for name in all_names]
    assert stats.chisquare(times).pvalue > 1e-3


def test_odd_and_even_orders_are_equally_likely():
    count, samples = 9, 2000
    signs = [round(np.linalg.det(np.eye(count)[order])) for order in orders(count, samples, seed=2)]
    assert abs(sum(signs)) < 5 * math.sqrt(samples)


def test_every_example_is_equally_likely_at_every_position():
    count = 30
    sampled = orders(count, samples=20_000, seed=1)
    for position in (0, count // 2, count - 1):
        times = np.bincount(sampled[:, position], minlength=count)
        assert stats.chisquare(times).pvalue > 1e-3


def test_neighbors_do_not_stay_together(key):
    count = 10_000
    order = np.asarray(shuffle_index(np.arange(count), count, key), np.float64)
    # |a - b| / count of two independent positions has mean 1/3 and standard deviation 1/sqrt(18).
    distance = np.abs(np.diff(order)).mean() / count
    assert abs(distance - 1 / 3) < 5 / math.sqrt(18 * count)


def test_another_key_gives_an_independent_order():
    first, second = orders(1000, samples=2, seed=0)
    # Independent permutations agree at one index on average (Poisson); P(more than 8) is 1e-6.
    assert (first == second).sum() <= 8


def test_subset_of_the_indices_gives_the_subset_of_the_order(key):
    part = np.array([3, 99, 0])
    whole = shuffle_index(np.arange(100), 100, key)
    np.testing.assert_array_equal(shuffle_index(part, 100, key), whole[part])


def test_largest_set_does_not_overflow(key):
    count = 2**31 - 1
    order = np.asarray(shuffle_index(np.arange(count - 1000, count, dtype=np.int32), count, key))
    assert len(set(order.tolist())) == 1000
    assert order.min() >= 0
    # Uniform: the mean of 1000 is within 5 standard errors of the middle.
    assert abs(order.mean() / count - 0.5) < 5 / math.sqrt(12 * 1000)
