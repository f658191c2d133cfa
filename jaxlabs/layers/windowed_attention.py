"""Attention through a local window, banded: time and memory grow with length x window.

The dense form (`layers.attention` under `masks.local_window`) computes every score and hides most
of them. Here the queries stand in blocks as long as the window, so that all keys that a block may
see lie in the block itself and its neighbour (Beltagy et al. 2020, section 3.1, uses such blocks).
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers import masks
from jaxlabs.layers.matmul import lax_precision

BAND_PAYS_FROM = 128
"""Length from which the banded form is the faster one on two CPU cores, and twice as fast at 256,
if four windows or more fit into it."""


@flax.struct.dataclass
class LocalWindow:
    """A window in place of a spelled-out mask: the attention module chooses the form.

    Attributes:
      window: see `local_window_attention`; static.
      causal: likewise; static.
      weights: [batch, time], 0 where there is no key; None if all are there.
    """

    window: int = flax.struct.field(pytree_node=False)
    causal: bool = flax.struct.field(pytree_node=False, default=True)
    weights: jax.Array | None = None

    def dense(self, time: int) -> jax.Array:
        """Returns the mask spelled out, `[batch or 1, 1, time, time]`."""
        window = masks.local_window(time, self.window, causal=self.causal)
        return window if self.weights is None else window & masks.padding(self.weights)

    def attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, **options: Any
    ) -> jax.Array:
        """Returns the banded form's output, see `local_window_attention`."""
        window, causal, weights = self.window, self.causal, self.weights
        return local_window_attention(
            query, key, value, window, causal=causal, weights=weights, **options
        )

    def pays(self, time: int) -> bool:
        """Whether the banded form is the faster one for sequences of `time`."""
        return time >= max(BAND_PAYS_FROM, 4 * self.window)


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
      window: keys that a query sees, its own included: `0 <= query - key < window`. It may be
        longer than the sequence.
      causal: False lets a query see as many keys after itself: `|query - key| < window`.
      weights: [batch, time], 0 where a key is padding and seen by no one.
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
    dot_precision = lax_precision(precision)

    query = _blocks(query * head_dim**-0.5, size, before=0, count=count)
    key, value = (_neighbourhoods(part, size, causal) for part in (key, value))
    scores = jnp.einsum("bhnqd,bhnkd->bhnqk", query, key, precision=dot_precision)
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
    output = jnp.einsum(
        "bhnqk,bhnkd->bhnqd", attention.astype(value.dtype), value, precision=dot_precision
    )
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
