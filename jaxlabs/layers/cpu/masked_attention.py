"""Causal and local attention in the implementation that suits the platform and the length."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.layers import positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.chunked_attention import block_local_attention, query_chunked_attention
from jaxlabs.layers.cpu.flash_attention import flash_attention
from jaxlabs.layers.masks import AttentionMask


def masked_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """Returns `dot_product_attention` under `mask`, `[batch, heads, time, head_dim]`.

    `dispatch.attention_implementation` chooses the implementation. Memory is linear in the length
    beyond 2,048 keys, and on CPUs beyond a few hundred. Flash attention has no forward-mode
    differentiation, on any platform.

    Args:
      query: [batch, heads, time, head_dim], after the rotary embedding if there is one.
      key: likewise.
      value: likewise.
      mask: causal, local or segmented mask.
      slopes: [heads], ALiBi slopes; their bias is added to the scores.
      dropout: applied to the attention weights; those that compute them in chunks pass the
        `chunk` and the `subchunk` as well, see `query_chunked_attention`.
      precision: of the two matmuls, see `jaxlabs.layers.matmul`.
    """
    options = {"slopes": slopes, "dropout": dropout, "precision": precision}
    in_chunks = functools.partial(query_chunked_attention, mask=mask, **options)
    implementations = {
        "cudnn": functools.partial(cudnn_attention, mask=mask),
        "dense": functools.partial(dense_attention, mask=mask, **options),
        "chunked": in_chunks,
        "remat": functools.partial(in_chunks, remat=True),
        "flash": functools.partial(flash_attention, mask=mask, precision=precision),
        "block_local": functools.partial(block_local_attention, mask=mask, **options),
    }
    platforms = ("cpu", "default", "cuda") if dispatch.has_cudnn_attention() else ("cpu", "default")
    chosen = {
        platform: dispatch.attention_implementation(
            platform,
            dtype=query.dtype,
            time=query.shape[2],
            head_dim=query.shape[3],
            window=mask.window,
            causal=mask.causal,
            plain=all(x is None for x in (mask.weights, mask.segments, slopes, dropout)),
        )
        for platform in platforms
    }
    return dispatch.by_platform(
        query, key, value, **{platform: implementations[name] for platform, name in chosen.items()}
    )


def dense_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    *,
    slopes: np.ndarray | None = None,
    dropout: Callable[..., jax.Array] | None = None,
    precision: str = "default",
) -> jax.Array:
    """`masked_attention` with all scores at once, under the materialized mask.

    Not `jax.nn.dot_product_attention`, which has no dropout of the weights.
    """
    index = jnp.arange(query.shape[2])
    bias = None if slopes is None else positions.alibi_bias(slopes, index, index)
    array = mask.to_array(len(index))
    return dot_product_attention(
        query, key, value, array, bias=bias, dropout=dropout, precision=precision
    )


def cudnn_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: AttentionMask,
    implementation: str = "cudnn",
) -> jax.Array:
    """`masked_attention` by cuDNN's fused kernel; its window leaves out the query's own key."""
    heads_third = (x.swapaxes(1, 2) for x in (query, key, value))
    output = jax.nn.dot_product_attention(
        *heads_third,
        is_causal=True,
        local_window_size=None if mask.window is None else (mask.window - 1, 0),
        implementation=implementation,
    )
    return output.swapaxes(1, 2)
