"""How a Transformer knows where a token stands: sinusoidal, learned, rotary, ALiBi.

The tables are numpy arrays, made in float64 and then rounded to float32, and become constants of
the compiled call.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def sinusoidal(length: int, embed_dim: int) -> np.ndarray:
    """Returns the position encoding of Vaswani et al. 2017, section 3.5, `[length, embed_dim]`.

    Sines and cosines take turns along the embed_dim: element 2i is `sin(t / 10000^(2i /
    embed_dim))` and element 2i + 1 the cosine of the same angle.
    """
    frequency = 10_000.0 ** (-np.arange(0, embed_dim, 2) / embed_dim)
    angles = np.arange(length)[:, None] * frequency[None, :]
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return pairs.reshape(length, -1)[:, :embed_dim].astype(np.float32)


class LearnedPositions(nn.Module):
    """One trained vector for every position below `length`.

    Attributes:
      length: number of positions.
      embed_dim: size of a vector.
      embedding_init: initializer of `embedding [length, embed_dim]`.
    """

    length: int
    embed_dim: int
    embedding_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, first: int | jax.Array, count: int) -> jax.Array:
        """Returns the vectors of positions `first` to `first + count - 1`, `[count, embed_dim]`."""
        shape = (self.length, self.embed_dim)
        embedding = self.param("embedding", self.embedding_init, shape, jnp.float32)
        return lax.dynamic_slice_in_dim(embedding, first, count)


def rope_tables(length: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and sines of RoPE (Su et al. 2021, eq. 15), each `[length, head_dim / 2]`.

    Pair i turns by `10000^(-2i / head_dim)` radians per position.

    Raises:
      ValueError: `head_dim` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"rotary positions turn pairs: a head of {head_dim} has an odd size")
    frequency = 10_000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequency[None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: jax.Array, cosines: jax.Array, sines: jax.Array) -> jax.Array:
    """Turns each pair of `x [batch, heads, time, head_dim]` by the angle of its position.

    A pair is element i of the first half and element i of the second. The paper pairs neighbors;
    that is the same layer with the columns of its kernels in another order, and here no element has
    to change places with its neighbor.

    Args:
      x: queries or keys.
      cosines: [time, head_dim / 2], rows of `rope_tables` for the positions of `x`.
      sines: likewise.
    """
    cosines, sines = cosines[None, None].astype(x.dtype), sines[None, None].astype(x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [first * cosines - second * sines, second * cosines + first * sines], axis=-1
    )


def alibi_slopes(num_heads: int) -> np.ndarray:
    """Returns the slope of each head (Press et al. 2022, section 3), `[heads]`, all positive.

    A geometric sequence from `2^(-8 / heads)` to `2^-8`. The authors' code takes every other slope
    of a longer sequence where `heads` is no power of two; the formula is kept here for any number.
    """
    return (2.0 ** (-8.0 * np.arange(1, num_heads + 1) / num_heads)).astype(np.float32)


def alibi_bias(slopes: np.ndarray, query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns what ALiBi adds to the scores: `-slope * |query - key|`, `[1, heads, query, key]`.

    Args:
      slopes: [heads] from `alibi_slopes`.
      query: [query] integer positions.
      key: [key] integer positions.
    """
    distance = jnp.abs(query[:, None] - key[None, :])[None, None].astype(slopes.dtype)
    return -slopes[None, :, None, None] * distance
