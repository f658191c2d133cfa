"""Attention through a window, without most of what it hides: in a band, or in slices of queries.

The dense form (`layers.attention` under `masks.local_window`) computes every score and hides most
of them. In the band the queries stand in blocks as long as the window, so that all keys that a
block may see lie in the block itself and its neighbour (Beltagy et al. 2020, section 3.1, uses such
blocks); time and memory grow with length x window. Where the window is long or has no end, slices
of the queries are compared with no more keys than the slice may see: causally about half of all.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers import masks, positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.matmul import einsum

SHORTEST_BAND, WINDOWS_IN_BAND = 128, 16
"""Length, and windows that fit into it, from which the band is faster than slices."""

SHORTEST_SLICE, MOST_SLICES = 64, 8
"""Queries of a slice, and slices: shorter ones gain nothing on two CPU cores, and more of them
little for the time that they take to compile."""


@flax.struct.dataclass
class LocalWindow:
    """A window in place of a spelled-out mask, attended through in the form that is faster.

    Attributes:
      window: keys that a query sees, its own included: `0 <= query - key < window`; None: all
        before it. Static.
      causal: False lets a query see as many keys after itself: `|query - key| < window`. Static.
      weights: [batch, time], 0 where there is no key; None if all are there.
    """

    window: int | None = flax.struct.field(pytree_node=False, default=None)
    causal: bool = flax.struct.field(pytree_node=False, default=True)
    weights: jax.Array | None = None

    def dense(self, time: int) -> jax.Array:
        """Returns the mask spelled out, `[batch or 1, 1, time, time]`."""
        window = time if self.window is None else self.window
        seen = masks.local_window(time, window, causal=self.causal)
        return seen if self.weights is None else seen & masks.padding(self.weights)

    def attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, **options: Any
    ) -> jax.Array:
        """Returns `dot_product_attention` under `dense`, `[batch, heads, time, head_dim]`.

        Takes the options of `sliced_attention`; the band leaves out dropout's `part`, which is 0.
        """
        if self.band_pays(query.shape[2]):
            options |= {"causal": self.causal, "weights": self.weights}
            return local_window_attention(query, key, value, self.window, **options)
        return sliced_attention(query, key, value, self, **options)

    def band_pays(self, time: int) -> bool:
        """Whether the banded form is the faster one for sequences of `time`."""
        return self.window is not None and (
            time >= max(SHORTEST_BAND, WINDOWS_IN_BAND * self.window)
        )


def sliced_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    window: LocalWindow,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """Returns `dot_product_attention` under `window.dense`, `[batch, heads, time, head_dim]`.

    Args:
      query: [batch, heads, time, head_dim]; rotary positions act before.
      key: likewise.
      value: likewise.
      window: who may see whom.
      slopes: [heads], ALiBi's, whose bias is added to the scores.
      dropout: applied to the weights of a slice, `[batch, heads, slice, keys]`, with its number as
        `part`, on their way to the values.
      precision: of the two dots, see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: the window is below 1.
    """
    time = query.shape[2]
    mask = window.dense(time)  # of which a compiled program computes what the slices read
    reach = time if window.window is None else window.window
    count = min(max(time // SHORTEST_SLICE, 1), MOST_SLICES)
    size = -(-time // count)
    index = jnp.arange(time)
    outputs = []
    for part, first in enumerate(range(0, time, size)):
        end = min(first + size, time)
        end_of_keys = end if window.causal else min(end + reach - 1, time)
        queries, keys = slice(first, end), slice(max(first - reach + 1, 0), end_of_keys)
        bias = None
        if slopes is not None:
            bias = positions.alibi_bias(slopes, index[queries], index[keys])
        output = dot_product_attention(
            query[:, :, queries],
            key[:, :, keys],
            value[:, :, keys],
            mask[:, :, queries, keys],
            bias=bias,
            dropout=dropout and functools.partial(dropout, part=part),
            precision=precision,
        )
        outputs.append(output)
    return jnp.concatenate(outputs, axis=2)


def local_window_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    window: int,
    *,
    causal: bool = True,
    weights: jax.Array | None = None,
    slopes: np.ndarray | None = None,
    dropout: Callable[[jax.Array], jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """Returns `dot_product_attention` under `masks.local_window`, `[batch, heads, time, head_dim]`.

    Args:
      query: [batch, heads, time, head_dim]; rotary positions act before.
      key: likewise.
      value: likewise.
      window: see `LocalWindow`; it may be longer than the sequence.
      causal: see `LocalWindow`.
      weights: see `LocalWindow`.
      slopes: [heads], ALiBi's, whose bias is added to the scores.
      dropout: applied to the weights, `[batch, heads, blocks, query, key]`, on their way to the
        values.
      precision: of the two dots, see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: the window is below 1.
    """
    masks.require_window(window)
    batch, heads, time, head_dim = query.shape
    size = min(window, time)
    count = -(-time // size)

    query = _blocks(query * head_dim**-0.5, size, before=0, count=count)
    key, value = (_neighbourhoods(part, size, causal) for part in (key, value))
    scores = einsum("bhnqd,bhnkd->bhnqk", query, key, precision)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    # The first key of a neighbourhood stands one block before its first query.
    distance = size + np.arange(size)[:, None] - np.arange(key.shape[3])[None, :]
    if slopes is not None:
        bias = slopes[:, None, None] * np.abs(distance)[None].astype(slopes.dtype)
        scores = scores - bias[None, :, None]
    seen = (np.abs(distance) < size) & ((distance >= 0) | (not causal))
    there = jnp.ones((1, 1, time, 1), bool) if weights is None else (weights > 0)[:, None, :, None]
    there = jnp.swapaxes(_neighbourhoods(there, size, causal), 3, 4)
    attention = masks.masked_softmax(scores, there & seen[None, None, None])
    if dropout is not None:
        attention = dropout(attention)
    output = einsum("bhnqk,bhnkd->bhnqd", attention.astype(value.dtype), value, precision)
    return output.reshape(batch, heads, count * size, head_dim)[:, :, :time]


def _neighbourhoods(x: jax.Array, size: int, causal: bool) -> jax.Array:
    """Returns what each block of queries may see of `x [batch, heads, time, depth]`.

    That is the block before it, the block itself and, unless causal, the one after it:
    `[batch, heads, blocks, 2 or 3 * size, depth]`, zeros beyond the ends.
    """
    count, reach = -(-x.shape[2] // size), 2 if causal else 3
    blocks = _blocks(x, size, before=1, count=count + reach - 1)
    return jnp.concatenate([blocks[:, :, i : i + count] for i in range(reach)], axis=3)


def _blocks(x: jax.Array, size: int, *, before: int, count: int) -> jax.Array:
    """Cuts `x [batch, heads, time, depth]` into `[batch, heads, count, size, depth]`.

    The first `before` blocks are zeros, and so is what the sequence leaves of the others.
    """
    batch, heads, time, depth = x.shape
    first = before * size
    x = jnp.pad(x, ((0, 0), (0, 0), (first, count * size - time - first), (0, 0)))
    return x.reshape(batch, heads, count, size, depth)
