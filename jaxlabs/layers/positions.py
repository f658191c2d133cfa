"""Position encodings: sinusoidal, rotary (RoPE), ALiBi; learned ones are an `nn.Embed`.

The tables are numpy arrays, computed in float64 and rounded to float32. Under `jit` they are
constants.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers.dtypes import at_least_float32


def sinusoidal_embedding(length: int, embed_dim: int) -> np.ndarray:
    """Returns the position encoding of Vaswani et al. 2017, section 3.5, `[length, embed_dim]`.

    Sines and cosines are interleaved: element 2i is `sin(t / 10000^(2i / embed_dim))` and element
    2i + 1 the cosine of the same angle.
    """
    frequency = 10_000.0 ** (-np.arange(0, embed_dim, 2) / embed_dim)
    angles = np.arange(length)[:, None] * frequency[None, :]
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return pairs.reshape(length, -1)[:, :embed_dim].astype(np.float32)


def rope_tables(length: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and sines of RoPE (Su et al. 2021, eq. 15), each `[length, head_dim / 2]`.

    Pair i is rotated by `10000^(-2i / head_dim)` radians per position.

    Raises:
      ValueError: `head_dim` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"rotary positions need an even head size, not {head_dim}")
    frequency = 10_000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(length)[:, None] * frequency[None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def apply_rope(x: jax.Array, cosines: jax.Array, sines: jax.Array) -> jax.Array:
    """Rotates each pair of `x [batch, heads, time, head_dim]` by the angle of its position.

    A pair is element i of the first half and element i of the second half, as in GPT-NeoX. The
    paper pairs adjacent elements, which is the same layer with permuted kernel columns; halves need
    no interleaving. Cosines and sines are rows of `rope_tables`, `[time, head_dim / 2]`. Computed
    in at least float32.
    """
    wide = at_least_float32(x)
    cosines, sines = (table[None, None].astype(wide.dtype) for table in (cosines, sines))
    first, second = jnp.split(wide, 2, axis=-1)
    rotated = [first * cosines - second * sines, second * cosines + first * sines]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def alibi_slopes(num_heads: int) -> np.ndarray:
    """Returns the slope of each head (Press et al. 2022, section 3), `[heads]`, all positive.

    A geometric sequence from `2^(-8 / heads)` to `2^-8`, for any number of heads. The authors' code
    takes every other slope of a longer sequence where `heads` is not a power of two.
    """
    return (2.0 ** (-8.0 * np.arange(1, num_heads + 1) / num_heads)).astype(np.float32)


def alibi_bias(slopes: np.ndarray, query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the ALiBi bias of the scores, `-slope * |query - key|`, `[1, heads, query, key]`.

    The slopes are `[heads]`; `query [query]` and `key [key]` are integer positions.
    """
    distance = jnp.abs(query[:, None] - key[None, :])[None, None].astype(slopes.dtype)
    return -slopes[None, :, None, None] * distance
