"""Causal and local attention that skips most masked scores: block-local or query-chunked.

Dense attention computes every score and masks most of them. Block-local attention cuts queries into
blocks as long as the window, so that all visible keys lie in the block itself and the adjacent ones
(Beltagy et al. 2020, section 3.1); time and memory grow with length x window. For long or unlimited
windows query-chunked attention computes, for each chunk of queries, only the scores of keys that
the chunk may see: causally about half of all.

For long sequences neither stores its scores for the backward pass: they are computed in subchunks,
one at a time, and recomputed for the gradient (Rabe and Staats 2021).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers import masks, positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.matmul import einsum

MIN_CHUNK, MAX_CHUNKS = 64, 8
"""Fewest queries of a chunk, and most chunks: shorter chunks save no time on two CPU cores, and
more of them save less than they take to compile."""

MAX_SCORES = 2**21
"""Scores of one example, over all heads, that are computed at once: 8 MB. Independent of the batch
size, so that a split of the batch changes neither the subchunks nor the dropout masks."""


def query_chunked_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
    remat: bool = False,
) -> jax.Array:
    """Returns `dot_product_attention` under `mask`, `[batch, heads, time, head_dim]`.

    Args:
      query: [batch, heads, time, head_dim], after the rotary embedding if there is one.
      key: likewise.
      value: likewise.
      mask: causal, local or segmented mask.
      slopes: [heads], ALiBi slopes; their bias is added to the scores.
      dropout: `dropout(weights, chunk=..., subchunk=...)` is applied to the weights of a chunk,
        `[batch, heads, chunk, keys]`, or of a subchunk, with the index of the chunk and that of
        the subchunk, []; None if the chunk is not subdivided.
      precision: of the two matmuls, see `jaxlabs.layers.matmul`.
      remat: whether the backward pass also recomputes chunks that are not subdivided. XLA for CPUs
        would merge the two computations.
    """
    heads, time = query.shape[1:3]
    max_visible = time if mask.window is None else min(mask.window, time)
    count = min(max(time // MIN_CHUNK, 1), MAX_CHUNKS)
    size = -(-time // count)
    index = jnp.arange(time)
    outputs = []
    for chunk, start in enumerate(range(0, time, size)):
        stop = min(start + size, time)
        key_stop = stop if mask.causal else min(stop + max_visible - 1, time)
        queries, keys = slice(start, stop), slice(max(start - max_visible + 1, 0), key_stop)
        attend = functools.partial(
            _attend_to_keys,
            keys=keys,
            mask=mask,
            slopes=slopes,
            dropout=dropout and functools.partial(dropout, chunk=chunk),
            precision=precision,
        )
        chunked = query[:, :, queries], index[None, None, queries]
        shared = key[:, :, keys], value[:, :, keys]
        options = {"scores": heads * (keys.stop - keys.start), "min_size": MIN_CHUNK}
        outputs.append(_remat_chunks(attend, chunked, shared, remat=remat, **options))
    return jnp.concatenate(outputs, axis=2)


def _attend_to_keys(
    subchunk: jax.Array | None,
    query: jax.Array,
    index: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    keys: slice,
    mask: AttentionMask,
    slopes: np.ndarray | None,
    dropout: Callable[..., jax.Array] | None,
    precision: str,
) -> jax.Array:
    """Attends from queries at `index [1, 1, query]` to the slice of keys that they may see."""
    index, bias = index[0, 0], None
    if slopes is not None:
        bias = positions.alibi_bias(slopes, index, jnp.arange(keys.start, keys.stop))
    return dot_product_attention(
        query,
        key,
        value,
        mask.block(index, keys),
        bias=bias,
        dropout=dropout and functools.partial(dropout, subchunk=subchunk),
        precision=precision,
    )


def block_local_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """Block-local implementation of `query_chunked_attention`, `[batch, heads, time, head_dim]`.

    Takes the arguments of `query_chunked_attention`, but calls `dropout(weights, subchunk=...)`
    with weights `[batch, heads, blocks, query, key]` of a subchunk of blocks.
    """
    batch, heads, time, head_dim = query.shape
    size = time if mask.window is None else min(mask.window, time)
    count = -(-time // size)

    query = _blocks(query * head_dim**-0.5, size, pad_blocks=0, count=count)
    key, value = (_with_adjacent_blocks(x, size, mask.causal) for x in (key, value))
    valid = jnp.ones((1, 1, time, 1), bool)
    if mask.weights is not None:
        valid = mask.weights.astype(bool)[:, None, :, None]
    valid = jnp.swapaxes(_with_adjacent_blocks(valid, size, mask.causal), 3, 4)
    segments = []
    if mask.segments is not None:
        column = mask.segments[:, None, :, None]
        segments.append(_blocks(column, size, pad_blocks=0, count=count))
        segments.append(jnp.swapaxes(_with_adjacent_blocks(column, size, mask.causal), 3, 4))
    # The first key of the adjacent blocks is one block before the first query.
    distance = size + np.arange(size)[:, None] - np.arange(key.shape[3])[None, :]
    visible = masks.visible(distance, size, causal=mask.causal)

    def attend(subchunk, query, key, value, valid, *segments):
        at_least_float32 = jnp.promote_types(query.dtype, jnp.float32)
        scores = einsum("bhnqd,bhnkd->bhnqk", query, key, precision, at_least_float32)
        if slopes is not None:
            bias = slopes[:, None, None] * np.abs(distance)[None].astype(slopes.dtype)
            scores = scores - bias[None, :, None]
        if segments:
            valid = valid & (segments[0] == segments[1])
        weights = masks.masked_softmax(scores, valid & visible[None, None, None])
        if dropout is not None:
            weights = dropout(weights, subchunk=subchunk)
        return einsum("bhnqk,bhnkd->bhnqd", weights.astype(value.dtype), value, precision)

    chunked = query, key, value, valid, *segments
    output = _remat_chunks(attend, chunked, scores=heads * distance.size)
    return output.reshape(batch, heads, count * size, head_dim)[:, :, :time]


def _remat_chunks(
    attend: Callable[..., jax.Array],
    chunked: Sequence[jax.Array],
    shared: Sequence[jax.Array] = (),
    *,
    scores: int,
    min_size: int = 1,
    remat: bool = False,
) -> jax.Array:
    """Returns `attend(subchunk, *chunked, *shared)`, `[batch, heads, n, ...]`, in subchunks.

    The subchunks are computed one at a time and recomputed in the backward pass. A small input is
    one subchunk.

    Args:
      attend: takes the index of a subchunk, None if there is only one, and its slices.
      chunked: [batch or 1, heads or 1, n, ...], cut into subchunks along axis 2.
      shared: arrays that all subchunks read.
      scores: scores per example and element of n, over all heads.
      min_size: fewest elements of n in a subchunk: each subchunk reads `shared` and adds to its
        gradient.
      remat: whether a single subchunk is recomputed too.
    """
    count = chunked[0].shape[2]
    wanted = -(-count * scores // MAX_SCORES)
    size = min(max(-(-count // wanted), min_size), count)
    subchunks = -(-count // size)
    if subchunks == 1:
        attend = jax.checkpoint(attend) if remat else attend
        return attend(None, *chunked, *shared)

    def cut(x: jax.Array) -> jax.Array:
        padding = [(0, subchunks * size - count) if axis == 2 else (0, 0) for axis in range(x.ndim)]
        x = jnp.pad(x, padding)
        return jnp.moveaxis(x.reshape(*x.shape[:2], subchunks, size, *x.shape[3:]), 2, 0)

    # The loop accumulates the gradients of `shared` in the dtype of its inputs.
    wide = [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in shared]

    # Forward and backward pass are separate loops, so CSE cannot merge them.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def attend_subchunk(slices):
        narrow = [x.astype(original.dtype) for x, original in zip(wide, shared, strict=True)]
        return attend(*slices, *narrow)

    slices = jnp.arange(subchunks), *map(cut, chunked)
    output = jnp.moveaxis(lax.map(attend_subchunk, slices), 0, 2)
    return output.reshape(*output.shape[:2], subchunks * size, *output.shape[4:])[:, :, :count]


def _with_adjacent_blocks(x: jax.Array, size: int, causal: bool) -> jax.Array:
    """Returns each block of `x [batch, heads, time, depth]` with its adjacent blocks.

    These are the previous block, the block itself and, unless causal, the next one:
    `[batch, heads, blocks, 2 or 3 * size, depth]`, zeros beyond the ends.
    """
    count, adjacent = -(-x.shape[2] // size), 2 if causal else 3
    blocks = _blocks(x, size, pad_blocks=1, count=count + adjacent - 1)
    return jnp.concatenate([blocks[:, :, i : i + count] for i in range(adjacent)], axis=3)


def _blocks(x: jax.Array, size: int, *, pad_blocks: int, count: int) -> jax.Array:
    """Cuts `x [batch, heads, time, depth]` into `[batch, heads, count, size, depth]`.

    The first `pad_blocks` blocks are zeros; the last blocks are padded with zeros.
    """
    batch, heads, time, depth = x.shape
    start = pad_blocks * size
    x = jnp.pad(x, ((0, 0), (0, 0), (start, count * size - time - start), (0, 0)))
    return x.reshape(batch, heads, count, size, depth)
