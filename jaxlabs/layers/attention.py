"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlabs.layers import masks
from jaxlabs.layers.matmul import einsum


class AttentionParts(NamedTuple):
    """Attention and what led to it.

    Attributes:
      output: [batch, heads, query, head_dim].
      weights: [batch, heads, query, key], each row sums to 1 (to 0 where the mask leaves no key).
      scores: [batch, heads, query, key], `query . key / sqrt(head_dim) + bias`, before the mask.
    """

    output: jax.Array
    weights: jax.Array
    scores: jax.Array


def dot_product_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None, **options
) -> jax.Array:
    """Returns the output of `attention_parts`, `[batch, heads, query, head_dim]`."""
    return attention_parts(query, key, value, mask, **options).output


def attention_parts(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    bias: jax.Array | None = None,
    dropout: Callable[[jax.Array], jax.Array] | None = None,
    precision: str = "default",
) -> AttentionParts:
    """Averages the values, weighted by `softmax(query . key / sqrt(head_dim) + bias)`.

    The softmax is taken in at least float32. A query without any key gets the output 0, and value
    and gradient are finite there too.

    Args:
      query: [batch, heads, query, head_dim].
      key: [batch, heads, key, head_dim].
      value: [batch, heads, key, head_dim].
      mask: booleans that broadcast from size 1 to [batch, heads, query, key]; True may be seen.
      bias: added to the scores, broadcast likewise.
      dropout: applied to the weights on their way to the values.
      precision: of the two dots, see `jaxlabs.layers.matmul`.
    """
    # The query has head_dim numbers a row to scale, the scores one for every key.
    query = query * query.shape[-1] ** -0.5
    scores = einsum("bhqd,bhkd->bhqk", query, key, precision)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if bias is not None:
        scores = scores + bias
    weights = masks.masked_softmax(scores, mask)
    dropped = weights if dropout is None else dropout(weights)
    output = einsum("bhqk,bhkd->bhqd", dropped.astype(value.dtype), value, precision)
    return AttentionParts(output, weights, scores)
