"""Named PRNG streams: all random numbers of a run derive from (seed, stream name, step)."""

import zlib

import jax

IMPLEMENTATION = "threefry2x32"
"""The PRNG implementation; explicit, since the environment can change JAX's default."""


def root(seed: int | jax.Array) -> jax.Array:
    """Returns the key of a seed, a Python int or a traced unsigned integer."""
    return jax.random.key(seed, impl=IMPLEMENTATION)


def stream(seed: int | jax.Array, name: str) -> jax.Array:
    """Returns the root key of one named stream.

    Args:
      seed: the run's seed; a Python int or a traced unsigned integer.
      name: name of the stream, such as "init", "data", "step" or "sample"; its CRC-32 is folded in.
        Another name gives other random numbers, so names do not change.
    """
    return jax.random.fold_in(root(seed), zlib.crc32(name.encode()))


def at_step(seed: int | jax.Array, name: str, step: int | jax.Array) -> jax.Array:
    """Returns the key of one step of a named stream."""
    return jax.random.fold_in(stream(seed, name), step)


def per_example(key: jax.Array, example_index: jax.Array) -> jax.Array:
    """Returns one key per example, `[batch]`, from the indices of the examples, `[batch]`.

    The indices are global, so the random numbers do not depend on how the batch is split over
    devices and micro-batches.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, example_index)
