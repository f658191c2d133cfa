"""Tests of jaxlabs/keys.py: streams depend only on seed and name, and are distinct."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys

NAMES = ("init", "data", "step", "sample", "evaluation")


def words(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


def test_stream_is_the_seed_folded_with_a_hash_of_its_name():
    expected = jax.random.fold_in(jax.random.key(7), zlib.crc32(b"step"))
    assert words(keys.stream(7, "step")) == words(expected)


def test_streams_of_all_names_and_seeds_differ():
    seeds = (0, 1, 2**31, 2**32 - 1)
    found = {words(keys.stream(seed, name)) for seed in seeds for name in NAMES}
    assert len(found) == len(seeds) * len(NAMES)


def test_traced_seed_gives_the_stream_of_the_python_int():
    traced = jax.jit(lambda seed: jax.random.key_data(keys.stream(seed, "data")))
    for seed in (0, 5, 2**32 - 1):
        np.testing.assert_array_equal(
            traced(jnp.uint32(seed)), jax.random.key_data(keys.stream(seed, "data"))
        )


def test_every_step_of_a_stream_has_its_own_key():
    found = [words(keys.at_step(7, "sample", step)) for step in (0, 1, np.int32(2))]
    assert found[1] == words(jax.random.fold_in(keys.stream(7, "sample"), 1))
    assert len(set(found)) == 3


def test_key_of_an_example_is_the_same_in_any_slice_of_the_batch(key):
    whole = jax.random.key_data(keys.per_example(key, jnp.arange(8)))
    for indices in (jnp.arange(4, 8), jnp.array([6, 1]), jnp.array([3])):
        np.testing.assert_array_equal(
            jax.random.key_data(keys.per_example(key, indices)), whole[indices]
        )


def test_examples_have_distinct_keys(key):
    per_example = keys.per_example(key, jnp.arange(64))
    assert len({words(one) for one in per_example} | {words(key)}) == 65


def test_streams_do_not_depend_on_the_default_prng_implementation():
    expected = words(keys.stream(7, "step"))
    with jax.default_prng_impl("rbg"):
        assert words(keys.stream(7, "step")) == expected
