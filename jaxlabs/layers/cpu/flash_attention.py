"""Causal attention in blocks of queries and keys whose scores fit into the cache.

The softmax is computed with a running maximum and sum (Milakov and Gimelshein 2018, "Online
normalizer calculation for softmax"), and the backward pass recomputes the scores (Dao et al. 2022,
"FlashAttention", algorithms 1 and 4). Blocks without visible scores are skipped.

A matmul that sums over the rows of both operands is slow on CPUs, so the backward pass computes its
scores transposed, `[key, query]`: then none of its products is of that kind.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers import masks
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.matmul import einsum

QUERIES, KEYS = 256, 512
"""Queries and keys of a block: shorter ones do not fill the matmuls, longer ones not the cache."""

MAX_PARALLEL = 4
"""Most examples x heads whose blocks are computed at once, so that they fit into the cache."""


class Rule(NamedTuple):
    """Which keys a query sees, and the precision of the matmuls; static."""

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
    missing = -time % KEYS
    examples = _divisor(batch, MAX_PARALLEL)
    together = _divisor(heads, MAX_PARALLEL // examples)
    shape = time + missing, head_dim

    def groups(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0)))
        # The examples of a group are far apart: of a batch that is split, every device has some.
        x = x.reshape(examples, -1, heads // together, together, *shape)
        return jnp.moveaxis(x, 0, 2).reshape(-1, examples, together, *shape)

    attend = functools.partial(_attend, Rule(mask.window, precision))
    operands = tuple(map(groups, (query * head_dim**-0.5, key, value)))
    output = lax.map(lambda operands: attend(*operands), operands)
    output = output.reshape(-1, heads // together, examples, together, *shape)
    return jnp.moveaxis(output, 2, 0).reshape(batch, heads, *shape)[:, :, :time]


def _divisor(number: int, maximum: int) -> int:
    """Returns the largest divisor of a number up to `maximum`."""
    return max(size for size in range(1, maximum + 1) if number % size == 0)


def _visible_blocks(rule: Rule, time: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the blocks of queries, in order, and of the keys that they see."""
    queries, keys = np.meshgrid(np.arange(time // QUERIES), np.arange(time // KEYS), indexing="ij")
    visible = keys * KEYS < (queries + 1) * QUERIES
    if rule.window is not None:
        visible &= queries * QUERIES - (keys + 1) * KEYS < rule.window - 1
    return queries[visible], keys[visible]


def _scores(left: jax.Array, right: jax.Array, distance: jax.Array, rule: Rule) -> jax.Array:
    """Returns the masked scores `[batch, heads, rows of left, rows of right]`."""
    at_least_float32 = jnp.promote_types(left.dtype, jnp.float32)
    scores = einsum("bhqd,bhkd->bhqk", left, right, rule.precision, at_least_float32)
    return jnp.where(masks.visible(distance, rule.window), scores, jnp.finfo(scores.dtype).min)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(rule: Rule, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attends with scaled queries; the time is a multiple of both block sizes."""
    return _attend_forward(rule, query, key, value)[0]


def _attend_forward(rule: Rule, query: jax.Array, key: jax.Array, value: jax.Array):
    queries, keys, values = _cut(query, QUERIES), _cut(key, KEYS), _cut(value, KEYS)
    wide = jnp.promote_types(query.dtype, jnp.float32)
    statistics = jnp.zeros(queries.shape[:-1], wide)

    def add_block(carry, block):
        maximum, total, sums = carry
        i, j = block
        distance = i * QUERIES - j * KEYS + np.subtract.outer(np.arange(QUERIES), np.arange(KEYS))
        scores = _scores(queries[i], keys[j], distance, rule)
        # Of a row that has seen no key yet the weights are 1; the first key makes them 0.
        new_maximum = jnp.maximum(maximum[i], scores.max(-1))
        weights = jnp.exp(scores - new_maximum[..., None])
        decay = jnp.exp(maximum[i] - new_maximum)
        new_sums = decay[..., None] * sums[i] + _product(weights, values[j], rule)
        new_total = decay * total[i] + weights.sum(-1)
        return (
            maximum.at[i].set(new_maximum),
            total.at[i].set(new_total),
            sums.at[i].set(new_sums),
        ), None

    start = statistics + jnp.finfo(wide).min, statistics, jnp.zeros(queries.shape, wide)
    blocks = _visible_blocks(rule, query.shape[2])
    (maximum, total, sums), _ = lax.scan(add_block, start, blocks)
    output = _join(sums / total[..., None]).astype(value.dtype)
    return output, (query, key, value, output, maximum, 1 / total)


def _attend_backward(rule: Rule, residuals: tuple[jax.Array, ...], gradient: jax.Array):
    query, key, value, output, maximum, scale = residuals
    queries, keys, values = _cut(query, QUERIES), _cut(key, KEYS), _cut(value, KEYS)
    gradients, keys_transposed = _cut(gradient, QUERIES), lax.optimization_barrier(keys.mT)
    wide = scale.dtype
    shared = (gradients.astype(wide) * _cut(output, QUERIES).astype(wide)).sum(-1)

    def add_block(carry, block):
        of_queries, of_keys, of_values = carry
        i, j = block
        distance = i * QUERIES - j * KEYS + np.subtract.outer(np.arange(QUERIES), np.arange(KEYS)).T
        scores = _scores(keys[j], queries[i], distance, rule)
        weights = jnp.exp(scores - maximum[i][..., None, :]) * scale[i][..., None, :]
        of_weights = einsum("bhkd,bhqd->bhkq", values[j], gradients[i], rule.precision, wide)
        of_scores = weights * (of_weights - shared[i][..., None, :])
        of_query = _product(keys_transposed[j], of_scores, rule)
        return (
            of_queries.at[i].add(of_query),
            of_keys.at[j].add(_product(of_scores, queries[i], rule)),
            of_values.at[j].add(_product(weights, gradients[i], rule)),
        ), None

    start = (
        jnp.zeros(queries.mT.shape, wide),
        jnp.zeros(keys.shape, wide),
        jnp.zeros(keys.shape, wide),
    )
    blocks = _visible_blocks(rule, query.shape[2])
    (of_queries, of_keys, of_values), _ = lax.scan(add_block, start, blocks)
    sides = lax.optimization_barrier(of_queries).mT, of_keys, of_values
    return tuple(
        _join(side).astype(x.dtype) for side, x in zip(sides, (query, key, value), strict=True)
    )


_attend.defvjp(_attend_forward, _attend_backward)


def _product(left: jax.Array, right: jax.Array, rule: Rule) -> jax.Array:
    """Returns `left [..., m, n]` times `right [..., n, k]`, with operands in the narrower dtype."""
    wide = jnp.promote_types(jnp.promote_types(left.dtype, right.dtype), jnp.float32)
    dtype = min(left.dtype, right.dtype, key=lambda dtype: jnp.finfo(dtype).bits)
    operands = left.astype(dtype), right.astype(dtype)
    return einsum("bhmn,bhnk->bhmk", *operands, rule.precision, wide)


def _cut(x: jax.Array, size: int) -> jax.Array:
    """Cuts `x [batch, heads, time, depth]` into `[blocks, batch, heads, size, depth]`."""
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, size, x.shape[3]), 2, 0)


def _join(x: jax.Array) -> jax.Array:
    """Reverses `_cut`."""
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(*x.shape[:2], -1, x.shape[4])
