import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.cpu import chunked_attention
from jaxlabs.layers.cpu.chunked_attention import query_chunked_attention
from jaxlabs.layers.masks import AttentionMask


def random_heads(*shape, dtype=np.float32):
    """Queries, keys and values, `[batch, heads, time, head_dim]`."""
    return list(np.random.default_rng(sum(shape)).standard_normal((3, *shape)).astype(dtype))


def mask_of(window, causal, padded, time):
    """The second sequence of a padded batch is all padding, the first has interior padding."""
    weights = np.stack([np.arange(time) % 3 > 0, np.zeros(time, bool)])
    return AttentionMask(causal, window, weights if padded else None)


@functools.partial(jax.jit, static_argnames="with_slopes")
def chunked_and_dense(qkv, target, mask, with_slopes):
    """Outputs of the chunked and of the dense implementation, and gradients of a sum over them."""
    slopes = positions.alibi_slopes(2) if with_slopes else None

    def materialized(query, key, value):
        index = jnp.arange(query.shape[2])
        bias = None if slopes is None else positions.alibi_bias(slopes, index, index)
        array = mask.to_array(query.shape[2])
        return dot_product_attention(query, key, value, array, bias=bias)

    def in_chunks(query, key, value):
        return query_chunked_attention(query, key, value, mask, slopes=slopes)

    def with_gradients(attend):
        def total(qkv):
            output = attend(*qkv)
            return jnp.sum(output * target), output

        return jax.grad(total, has_aux=True)(qkv)

    return with_gradients(in_chunks), with_gradients(materialized)


@pytest.mark.parametrize(
    ("time", "window", "causal", "padded"),
    [
        (1, None, True, False),
        (1, 3, False, True),
        (127, None, True, False),
        (128, None, True, True),
        (150, 100, True, False),
        (150, 100, False, True),
        (200, 10**6, True, False),
        (200, 64, True, True),
        (200, 1, False, False),
        (521, 1, True, False),
        (521, None, True, True),
        (521, None, False, False),
    ],
)
def test_query_chunked_equals_dense_attention_in_value_and_gradient(time, window, causal, padded):
    *qkv, target = random_heads(2, 2, time, 4) + random_heads(2, 2, time, 4)[:1]
    mask = mask_of(window, causal, padded, time)
    for with_slopes in (False, True):
        chunked, expected = chunked_and_dense(qkv, target, mask, with_slopes)
        chex.assert_shape(chunked[1], (2, 2, time, 4))
        chex.assert_trees_all_close(chunked, expected, atol=2e-5)


def test_gradient_of_query_chunked_attention_in_float64(monkeypatch):
    monkeypatch.setattr(chunked_attention, "MIN_CHUNK", 2)
    with jax.enable_x64(True):
        qkv = random_heads(1, 1, 5, 2, dtype=np.float64)
        mask = AttentionMask(weights=np.array([[1, 1, 0, 1, 1]]))

        def attend(query, key, value):
            return jnp.sin(query_chunked_attention(query, key, value, mask))

        assert attend(*qkv).dtype == jnp.float64
        check_grads(jax.jit(attend), qkv, order=1)


@pytest.mark.slow
def test_chunks_compute_little_more_than_half_of_all_scores():
    seen = []

    def record(weights, chunk, subchunk):
        seen.append((chunk, *weights.shape[2:]))
        return weights

    query_chunked_attention(*random_heads(1, 1, 256, 4), AttentionMask(), dropout=record)
    assert seen == [(0, 64, 64), (1, 64, 128), (2, 64, 192), (3, 64, 256)]
    seen.clear()
    query_chunked_attention(*random_heads(1, 1, 256, 4), AttentionMask(window=65), dropout=record)
    assert seen == [(0, 64, 64), (1, 64, 128), (2, 64, 128), (3, 64, 128)]
    seen.clear()
    query_chunked_attention(
        *random_heads(1, 1, 256, 4), AttentionMask(window=2, causal=False), dropout=record
    )
    assert seen == [(0, 64, 65), (1, 64, 66), (2, 64, 66), (3, 64, 65)]
    seen.clear()
    query_chunked_attention(*random_heads(1, 1, 4099, 4), AttentionMask(), dropout=record)
    assert [rows for _, rows, _ in seen] == [513] * 7 + [508]
    seen.clear()
    query_chunked_attention(*random_heads(1, 1, 127, 4), AttentionMask(), dropout=record)
    assert seen == [(0, 127, 127)]


def test_a_compiled_gradient_of_chunks_takes_about_half_of_the_memory():
    def memory(attend):
        shape = jax.ShapeDtypeStruct((1, 2, 1024, 16), jnp.float32)
        total = jax.grad(lambda *qkv: attend(*qkv).sum(), (0, 1, 2))
        compiled = jax.jit(total).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    chunked = memory(lambda *qkv: query_chunked_attention(*qkv, AttentionMask()))
    dense = memory(lambda *qkv: dot_product_attention(*qkv, AttentionMask().to_array(1024)))
    assert chunked < 0.6 * dense


def test_query_chunked_attention_refuses_a_window_below_one():
    with pytest.raises(ValueError, match="window: 0 is not accepted; at least 1"):
        query_chunked_attention(*random_heads(1, 1, 3, 4), AttentionMask(window=0))
