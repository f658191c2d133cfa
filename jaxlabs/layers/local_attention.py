"""Attention through a window, without most of what it hides: in a band, or in slices of queries.

The dense form (`layers.attention` under `masks.local_window`) computes every score and hides most
of them. In the band the queries stand in blocks as long as the window, so that all keys that a
block may see lie in the block itself and its neighbor (Beltagy et al. 2020, section 3.1, uses such
blocks); time and memory grow with length x window. Where the window is long or has no end, slices
of the queries are compared with no more keys than the slice may see: causally about half of all.

Of a long sequence neither form keeps its scores for the way back: they are computed in groups, one
after the other, and again when their gradient is due (Rabe and Staats 2021).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers import masks, positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.matmul import einsum

MIN_BAND, WINDOWS_IN_BAND = 128, 16
"""Length, and windows that fit into it, from which the band is faster than slices."""

MIN_SLICE, MAX_SLICES = 64, 8
"""Queries of a slice, and slices: shorter ones gain nothing on two CPU cores, and more of them
little for the time that they take to compile."""

MAX_SCORES = 2**21
"""Scores of an example that are computed at once, all heads together, about: 8 MB. A batch does not
count, so that no split of it changes the groups and with them dropout's masks."""


@flax.struct.dataclass
class AttentionMask:
    """A window in place of a spelled-out mask, attended through in the form that is faster.

    Attributes:
      window: keys that a query sees, its own included: `0 <= query - key < window`; None: all
        before it. It may be longer than the sequence. Static.
      causal: False lets a query see as many keys after itself: `|query - key| < window`. Static.
      weights: [batch, time], 0 where there is no key; None if all are there.
    """

    window: int | None = flax.struct.field(pytree_node=False, default=None)
    causal: bool = flax.struct.field(pytree_node=False, default=True)
    weights: jax.Array | None = None

    def dense(self, time: int) -> jax.Array:
        """Returns the mask spelled out, `[batch or 1, 1, time, time]`."""
        return self.rows(jnp.arange(time), slice(0, time))

    def rows(self, query: jax.Array, keys: slice) -> jax.Array:
        """Returns what queries see of a stretch of the keys, `[batch or 1, 1, query, keys]`.

        Args:
          query: [query] integer positions.
          keys: from its start to before its stop.

        Raises:
          ValueError: the window is below 1.
        """
        distance = query[:, None] - jnp.arange(keys.start, keys.stop)[None, :]
        seen = masks.visible(distance, self.window, causal=self.causal)[None, None]
        return seen if self.weights is None else seen & masks.padding(self.weights[:, keys])

    def reach(self, time: int) -> int:
        """Returns how many keys of a sequence of `time` a query may see, itself included.

        Raises:
          ValueError: the window is below 1.
        """
        return time if self.window is None else min(masks.require_window(self.window), time)

    def attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, **options: Any
    ) -> jax.Array:
        """Returns `dot_product_attention` under `dense`, `[batch, heads, time, head_dim]`.

        Takes the options of `query_chunked_attention`.
        """
        form = (
            block_local_attention if self.prefer_banded(query.shape[2]) else query_chunked_attention
        )
        return form(query, key, value, self, **options)

    def prefer_banded(self, time: int) -> bool:
        """Whether the banded form is the faster one for sequences of `time`."""
        return self.window is not None and (time >= max(MIN_BAND, WINDOWS_IN_BAND * self.window))


def query_chunked_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    window: AttentionMask,
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
      dropout: `dropout(weights, part=..., group=...)` is applied to the weights of a slice,
        `[batch, heads, slice, keys]`, or of a group of its queries, on their way to the values;
        with the slice's number, and the group's, [], or None where there is no group.
      precision: of the two dots, see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: the window is below 1.
    """
    heads, time = query.shape[1:3]
    reach = window.reach(time)
    count = min(max(time // MIN_SLICE, 1), MAX_SLICES)
    size = -(-time // count)
    index = jnp.arange(time)
    outputs = []
    for part, first in enumerate(range(0, time, size)):
        end = min(first + size, time)
        end_of_keys = end if window.causal else min(end + reach - 1, time)
        queries, keys = slice(first, end), slice(max(first - reach + 1, 0), end_of_keys)
        attend = functools.partial(
            _attend_to_stretch,
            keys=keys,
            window=window,
            slopes=slopes,
            dropout=dropout and functools.partial(dropout, part=part),
            precision=precision,
        )
        parts = query[:, :, queries], index[None, None, queries]
        whole = key[:, :, keys], value[:, :, keys]
        scores = heads * (keys.stop - keys.start)
        outputs.append(_remat_chunks(attend, parts, whole, scores=scores, least=MIN_SLICE))
    return jnp.concatenate(outputs, axis=2)


def _attend_to_stretch(
    group: jax.Array | None,
    query: jax.Array,
    index: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    keys: slice,
    window: AttentionMask,
    slopes: np.ndarray | None,
    dropout: Callable[..., jax.Array] | None,
    precision: str,
) -> jax.Array:
    """Attends from queries at `index [1, 1, query]` to the stretch of keys that they may see."""
    index, bias = index[0, 0], None
    if slopes is not None:
        bias = positions.alibi_bias(slopes, index, jnp.arange(keys.start, keys.stop))
    return dot_product_attention(
        query,
        key,
        value,
        window.rows(index, keys),
        bias=bias,
        dropout=dropout and functools.partial(dropout, group=group),
        precision=precision,
    )


def block_local_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    window: AttentionMask,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """Returns what `query_chunked_attention` does, `[batch, heads, time, head_dim]`, in blocks.

    The arguments are those of `query_chunked_attention`, but that it is `dropout(weights,
    group=...)`, of weights `[batch, heads, blocks, query, key]` in a group of blocks.

    Raises:
      ValueError: the window is below 1.
    """
    batch, heads, time, head_dim = query.shape
    size = window.reach(time)
    count = -(-time // size)

    query = _blocks(query * head_dim**-0.5, size, before=0, count=count)
    key, value = (_with_adjacent_blocks(part, size, window.causal) for part in (key, value))
    there = jnp.ones((1, 1, time, 1), bool)
    if window.weights is not None:
        there = window.weights.astype(bool)[:, None, :, None]
    there = jnp.swapaxes(_with_adjacent_blocks(there, size, window.causal), 3, 4)
    # The first key of a neighborhood stands one block before its first query.
    distance = size + np.arange(size)[:, None] - np.arange(key.shape[3])[None, :]
    seen = masks.visible(distance, size, causal=window.causal)

    def attend(group, query, key, value, there):
        scores = einsum("bhnqd,bhnkd->bhnqk", query, key, precision)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        if slopes is not None:
            bias = slopes[:, None, None] * np.abs(distance)[None].astype(slopes.dtype)
            scores = scores - bias[None, :, None]
        weights = masks.masked_softmax(scores, there & seen[None, None, None])
        if dropout is not None:
            weights = dropout(weights, group=group)
        return einsum("bhnqk,bhnkd->bhnqd", weights.astype(value.dtype), value, precision)

    parts = query, key, value, there
    output = _remat_chunks(attend, parts, scores=heads * distance.size)
    return output.reshape(batch, heads, count * size, head_dim)[:, :, :time]


def _remat_chunks(
    attend: Callable[..., jax.Array],
    parts: Sequence[jax.Array],
    whole: Sequence[jax.Array] = (),
    *,
    scores: int,
    least: int = 1,
) -> jax.Array:
    """Returns `attend(group, *parts, *whole)`, `[batch, heads, n, ...]`, in groups if it is much.

    What a group computes is not kept for its gradient but computed again.

    Args:
      attend: from the number of a group, None if there is one alone, and its share of `parts`.
      parts: [batch or 1, heads or 1, n, ...], cut into groups along axis 2.
      whole: what all groups see.
      scores: of an example and one of n, every head's.
      least: as many of n at least are in a group: each reads the whole, and adds to its gradient.
    """
    count = parts[0].shape[2]
    wanted = -(-count * scores // MAX_SCORES)
    size = min(max(-(-count // wanted), least), count)
    groups = -(-count // size)
    if groups == 1:
        return attend(None, *parts, *whole)

    def cut(x: jax.Array) -> jax.Array:
        filled = [(0, groups * size - count) if axis == 2 else (0, 0) for axis in range(x.ndim)]
        x = jnp.pad(x, filled)
        return jnp.moveaxis(x.reshape(*x.shape[:2], groups, size, *x.shape[3:]), 2, 0)

    # A loop sums their gradients in the type that they come in.
    wide = [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in whole]

    # Forth and back are two loops, which nothing takes for one computation.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def again(group):
        narrow = [x.astype(given.dtype) for x, given in zip(wide, whole, strict=True)]
        return attend(*group, *narrow)

    output = jnp.moveaxis(lax.map(again, (jnp.arange(groups), *map(cut, parts))), 0, 2)
    return output.reshape(*output.shape[:2], groups * size, *output.shape[4:])[:, :, :count]


def _with_adjacent_blocks(x: jax.Array, size: int, causal: bool) -> jax.Array:
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
