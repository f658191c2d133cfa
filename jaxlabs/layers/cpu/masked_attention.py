"""Causal and local attention in the form that suits the platform and the length."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.chunked_attention import (
    attend_to_keys,
    block_local_attention,
    query_chunked_attention,
)
from jaxlabs.layers.masks import AttentionMask


def masked_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: AttentionMask, **options: Any
) -> jax.Array:
    """Returns `dot_product_attention` under `mask`, `[batch, heads, time, head_dim]`.

    Takes the arguments of `query_chunked_attention`; a form without chunks calls `dropout(weights)`
    without their indices. `jaxlabs.layers.cpu.dispatch.attention_form` chooses the form. Memory is
    linear in the length beyond 2,048 keys, and on CPUs beyond a few hundred.
    """
    in_chunks = functools.partial(query_chunked_attention, mask=mask, **options)
    forms = {
        "cudnn": functools.partial(cudnn_attention, mask=mask),
        "dense": functools.partial(dense_attention, mask=mask, **options),
        "chunked": in_chunks,
        "remat": functools.partial(in_chunks, remat=True),
        "banded": functools.partial(block_local_attention, mask=mask, **options),
    }
    platforms = ("cpu", "default", "cuda") if dispatch.has_cudnn_attention() else ("cpu", "default")
    chosen = {
        platform: dispatch.attention_form(
            platform,
            dtype=query.dtype,
            time=query.shape[2],
            head_dim=query.shape[3],
            window=mask.window,
            causal=mask.causal,
            plain=mask.weights is None
            and all(options.get(name) is None for name in ("slopes", "dropout")),
        )
        for platform in platforms
    }
    return dispatch.by_platform(
        query, key, value, **{platform: forms[form] for platform, form in chosen.items()}
    )


def dense_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: AttentionMask, **options: Any
) -> jax.Array:
    """`masked_attention` with all scores at once.

    Not `jax.nn.dot_product_attention`, which has no dropout of the weights.
    """
    time = query.shape[2]
    index, keys = jnp.arange(time)[None, None], slice(0, time)
    return attend_to_keys(None, query, index, key, value, keys=keys, mask=mask, **options)


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
