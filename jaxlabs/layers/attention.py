"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlabs.layers import masks
from jaxlabs.layers.matmul import einsum


class AttentionOutput(NamedTuple):
    """The output of attention and its intermediates."""

    output: jax.Array  #: [batch, heads, query, head_dim]
    #: [batch, heads, query, key], each row sums to 1 (to 0 where the mask leaves no key)
    weights: jax.Array
    #: [batch, heads, query, key], `query . key / sqrt(head_dim) + bias`, before the mask
    scores: jax.Array


def dot_product_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None, **options
) -> jax.Array:
    """Returns the output of `attention_output`, `[batch, heads, query, head_dim]`."""
    return attention_output(query, key, value, mask, **options).output


def attention_output(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    bias: jax.Array | None = None,
    dropout: Callable[[jax.Array], jax.Array] | None = None,
    precision: str = "default",
) -> AttentionOutput:
    """Averages the values, weighted by `softmax(query . key / sqrt(head_dim) + bias)`.

    The softmax is taken in at least float32. A query without visible keys gets the output 0, with a
    finite gradient.

    Args:
      query: [batch, heads, query, head_dim].
      key: [batch, heads, key, head_dim].
      value: [batch, heads, key, head_dim].
      mask: booleans that broadcast to [batch, heads, query, key]; True is visible.
      bias: added to the scores; broadcasts like the mask.
      dropout: applied to the weights before they are multiplied by the values.
      precision: of the two matmuls, see `jaxlabs.layers.matmul`.
    """
    # Cheaper than to scale the scores.
    query = query * query.shape[-1] ** -0.5
    at_least_float32 = jnp.promote_types(query.dtype, jnp.float32)
    scores = einsum("bhqd,bhkd->bhqk", query, key, precision, at_least_float32)
    if bias is not None:
        scores = scores + bias
    weights = masks.masked_softmax(scores, mask)
    dropped = weights if dropout is None else dropout(weights)
    output = einsum("bhqk,bhkd->bhqd", dropped.astype(value.dtype), value, precision)
    return AttentionOutput(output, weights, scores)
