"""Named random streams: every random number of a run follows from (seed, stream name, step)."""

import zlib

import jax

IMPLEMENTATION = "threefry2x32"
"""Of the random numbers; named, since JAX's default is the user's (`JAX_DEFAULT_PRNG_IMPL`)."""


def root(seed: int | jax.Array) -> jax.Array:
    """Returns the key that a seed, a Python int or a traced unsigned integer, stands for."""
    return jax.random.key(seed, impl=IMPLEMENTATION)


def stream(seed: int | jax.Array, name: str) -> jax.Array:
    """Returns the root key of one named stream.

    Args:
      seed: the run's seed; a Python int or a traced unsigned integer.
      name: what the stream is for ("init", "data", "step", "sample"); told apart by its CRC-32.
    """
    return jax.random.fold_in(root(seed), zlib.crc32(name.encode()))


def per_example(key: jax.Array, example: jax.Array) -> jax.Array:
    """Returns one key for each example, `[batch]`, from the examples' global indices `[batch]`.

    The index is global, so a device or a micro-batch that holds a slice of the batch draws exactly
    the numbers that the whole batch would have drawn there.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, example)
