"""Flash attention for CPUs: causal, in blocks of queries and keys whose scores fit into the cache.

The softmax is computed with a running maximum and sum (Milakov and Gimelshein 2018, "Online
normalizer calculation for softmax"), and the backward pass recomputes the scores (Dao et al. 2022,
"FlashAttention", algorithms 1 and 4). Blocks without visible scores are skipped.

A matmul that sums over the rows of both operands is slow on CPUs, so the backward pass computes its
scores transposed, `[key, query]`: then none of its products is of that kind.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers import masks
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.matmul import einsum

BLOCK_Q, BLOCK_KV = 256, 512
"""Queries and keys of a block: shorter ones do not fill the matmuls, longer ones not the cache."""

MAX_PARALLEL = 4
"""Most examples x heads whose blocks are computed at once on one device, to fit into the cache;
with several devices more, where both numbers share factors with theirs."""


class Static(NamedTuple):
    """Which keys a query sees, and the precision of the matmuls."""

    window: int | None  #: see `AttentionMask`
    precision: str  #: see `jaxlabs.layers.matmul`


def flash_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    *,
    precision: str = "default",
) -> jax.Array:
    """Returns `dot_product_attention` under a causal mask, `[batch, heads, time, head_dim]`.

    It has no forward-mode differentiation.

    Args:
      query: [batch, heads, time, head_dim], after the rotary embedding if there is one.
      key: likewise.
      value: likewise.
      mask: causal, without padding and segments.
      precision: of the matmuls, see `jaxlabs.layers.matmul`.
    """
    batch, heads, time, head_dim = query.shape
    padding = -time % BLOCK_KV
    devices = jax.device_count()
    examples = _group_size(batch, devices, MAX_PARALLEL * devices)
    heads_per_group = _group_size(heads, devices, MAX_PARALLEL * devices // examples)
    shape = time + padding, head_dim

    def to_groups(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, padding), (0, 0)))
        # Strided, not contiguous: each device of a mesh holds a part of every group.
        x = x.reshape(examples, -1, heads_per_group, heads // heads_per_group, *shape)
        return jnp.moveaxis(x, (1, 3), (0, 1)).reshape(-1, examples, heads_per_group, *shape)

    operands = map(to_groups, (query * head_dim**-0.5, key, value))
    output = _attend(Static(mask.window, precision), *operands)
    output = output.reshape(-1, heads // heads_per_group, examples, heads_per_group, *shape)
    output = jnp.moveaxis(output, (0, 1), (1, 3))
    return output.reshape(batch, heads, *shape)[:, :, :time]


def _group_size(number: int, devices: int, maximum: int) -> int:
    """Returns the largest divisor up to `maximum` that is a multiple of gcd(number, devices).

    At least that gcd: every mesh axis whose size divides `number` divides the group size too.
    """
    smallest = math.gcd(number, devices)
    sizes = range(smallest, max(smallest, maximum) + 1, smallest)
    return max(size for size in sizes if number % size == 0)


def _visible_blocks(window: int | None, time: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices `[pairs]` of query blocks, in order, and of the key blocks they see."""
    i, j = np.meshgrid(np.arange(time // BLOCK_Q), np.arange(time // BLOCK_KV), indexing="ij")
    visible = j * BLOCK_KV < (i + 1) * BLOCK_Q
    if window is not None:
        visible &= i * BLOCK_Q - (j + 1) * BLOCK_KV < window - 1
    return i[visible], j[visible]


def _positions(i: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the positions of a block's queries, `[BLOCK_Q]`, and keys, `[BLOCK_KV]`."""
    return i * BLOCK_Q + jnp.arange(BLOCK_Q), j * BLOCK_KV + jnp.arange(BLOCK_KV)


def _scores(left: jax.Array, right: jax.Array, distance: jax.Array, static: Static) -> jax.Array:
    """Returns the masked scores `[batch, heads, rows of left, rows of right]`."""
    at_least_float32 = jnp.promote_types(left.dtype, jnp.float32)
    scores = einsum("bhqd,bhkd->bhqk", left, right, static.precision, at_least_float32)
    return jnp.where(masks.visible(distance, static.window), scores, jnp.finfo(scores.dtype).min)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static: Static, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attends with scaled queries, group by group; the time is a multiple of both block sizes."""
    return _attend_forward(static, query, key, value)[0]


def _attend_forward(static: Static, *operands: jax.Array):
    # The loop over groups is not differentiated: JAX would keep the masks of all blocks.
    output, *statistics = lax.map(lambda group: _attend_group(static, *group), operands)
    return output, (*operands, output, *statistics)


def _attend_backward(static: Static, residuals: tuple[jax.Array, ...], gradient: jax.Array):
    groups = *residuals, gradient
    return lax.map(lambda group: _group_gradients(static, *group), groups)


_attend.defvjp(_attend_forward, _attend_backward)


def _attend_group(
    static: Static, query: jax.Array, key: jax.Array, value: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the output of a group, and the maximum and inverse sum of each query's softmax."""
    queries, keys, values = (
        _to_blocks(query, BLOCK_Q),
        _to_blocks(key, BLOCK_KV),
        _to_blocks(value, BLOCK_KV),
    )
    wide = jnp.promote_types(query.dtype, jnp.float32)

    def add_block(carry, block):
        (maximum, total, sums), (i, j) = carry, block
        q, k = _positions(i, j)
        scores = _scores(queries[i], keys[j], q[:, None] - k[None], static)
        # Of a row that has seen no key yet the weights are 1; the first key makes them 0.
        new_maximum = jnp.maximum(maximum[i], scores.max(-1))
        weights = jnp.exp(scores - new_maximum[..., None])
        decay = jnp.exp(maximum[i] - new_maximum)
        new_sums = decay[..., None] * sums[i] + _product(weights, values[j], static)
        new_total = decay * total[i] + weights.sum(-1)
        return (
            maximum.at[i].set(new_maximum),
            total.at[i].set(new_total),
            sums.at[i].set(new_sums),
        ), None

    zeros = jnp.zeros(queries.shape[:-1], wide)
    start = zeros + jnp.finfo(wide).min, zeros, jnp.zeros(queries.shape, wide)
    blocks = _visible_blocks(static.window, query.shape[2])
    (maximum, total, sums), _ = lax.scan(add_block, start, blocks)
    output = _from_blocks(sums / total[..., None]).astype(value.dtype)
    # Not log(total) + maximum: of large scores the sum would keep few digits of the logarithm.
    return output, maximum, 1 / total


def _group_gradients(
    static: Static,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    output: jax.Array,
    maximum: jax.Array,
    inverse_total: jax.Array,
    gradient: jax.Array,
) -> tuple[jax.Array, ...]:
    """Returns the gradients of the query, key and value of a group."""
    queries, keys, values = (
        _to_blocks(query, BLOCK_Q),
        _to_blocks(key, BLOCK_KV),
        _to_blocks(value, BLOCK_KV),
    )
    gradients, transposed_keys = _to_blocks(gradient, BLOCK_Q), lax.optimization_barrier(keys.mT)
    wide = inverse_total.dtype
    delta = (gradients.astype(wide) * _to_blocks(output, BLOCK_Q).astype(wide)).sum(-1)

    def add_block(carry, block):
        (dq, dk, dv), (i, j) = carry, block
        q, k = _positions(i, j)
        scores = _scores(keys[j], queries[i], q[None] - k[:, None], static)
        weights = jnp.exp(scores - maximum[i][..., None, :]) * inverse_total[i][..., None, :]
        dw = einsum("bhkd,bhqd->bhkq", values[j], gradients[i], static.precision, wide)
        ds = weights * (dw - delta[i][..., None, :])
        return (
            dq.at[i].add(_product(transposed_keys[j], ds, static)),
            dk.at[j].add(_product(ds, queries[i], static)),
            dv.at[j].add(_product(weights, gradients[i], static)),
        ), None

    start = tuple(jnp.zeros(shape, wide) for shape in (queries.mT.shape, keys.shape, keys.shape))
    blocks = _visible_blocks(static.window, query.shape[2])
    (dq, dk, dv), _ = lax.scan(add_block, start, blocks)
    dq = lax.optimization_barrier(dq).mT
    return tuple(
        _from_blocks(side).astype(x.dtype)
        for side, x in zip((dq, dk, dv), (query, key, value), strict=True)
    )


def _product(left: jax.Array, right: jax.Array, static: Static) -> jax.Array:
    """Returns `left [..., m, n]` times `right [..., n, k]`, with operands in the narrower dtype."""
    wide = jnp.promote_types(jnp.promote_types(left.dtype, right.dtype), jnp.float32)
    dtype = min(left.dtype, right.dtype, key=lambda dtype: jnp.finfo(dtype).bits)
    operands = left.astype(dtype), right.astype(dtype)
    return einsum("bhmn,bhnk->bhmk", *operands, static.precision, wide)


def _to_blocks(x: jax.Array, size: int) -> jax.Array:
    """Cuts `x [batch, heads, time, depth]` into `[blocks, batch, heads, size, depth]`."""
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, size, x.shape[3]), 2, 0)


def _from_blocks(x: jax.Array) -> jax.Array:
    """Reverses `_to_blocks`."""
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(*x.shape[:2], -1, x.shape[4])
