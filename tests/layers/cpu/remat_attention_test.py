"""Attention in rematerialized subchunks, as for long sequences, on short ones."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.cpu import chunked_attention, dispatch
from jaxlabs.layers.cpu.chunked_attention import block_local_attention, query_chunked_attention
from jaxlabs.layers.dropout import dropout
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

IMPLEMENTATIONS = [
    (block_local_attention, AttentionMask(window=16)),
    (block_local_attention, AttentionMask(window=16, causal=False)),
    (query_chunked_attention, AttentionMask()),
    (query_chunked_attention, AttentionMask(window=30, causal=False)),
]


@pytest.fixture
def few_scores(monkeypatch):
    """Subchunks of at most two blocks of 16 queries, or about as many scores of a chunk."""
    monkeypatch.setattr(chunked_attention, "MAX_SCORES", 2 * 2 * 16 * 32)
    monkeypatch.setattr(chunked_attention, "MIN_CHUNK", 8)
    monkeypatch.setattr(chunked_attention, "MAX_CHUNKS", 2)


def random_heads(time, dtype=np.float32, batch=2, num_heads=2, head_dim=4):
    """Queries, keys, values and a target, `[batch, heads, time, head_dim]`."""
    shape = (4, batch, num_heads, time, head_dim)
    return list(np.random.default_rng(time).standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("time", [80, 149])
@pytest.mark.parametrize(("implementation", "mask"), IMPLEMENTATIONS)
def test_subchunks_equal_dense_attention_in_value_and_gradient(
    few_scores, implementation, mask, time
):
    *qkv, target = random_heads(time)
    weights = np.stack([np.arange(time) % 3 > 0, np.zeros(time, bool)])
    slopes, index, subchunks = positions.alibi_slopes(2), np.arange(time), []

    def subchunked(*qkv, mask):
        def record(weights, subchunk, chunk=0):
            subchunks.append(subchunk)
            return weights

        return implementation(*qkv, mask, slopes=slopes, dropout=record)

    def dense(*qkv, mask):
        bias = positions.alibi_bias(slopes, index, index)
        return dot_product_attention(*qkv, mask.to_array(time), bias=bias)

    def with_gradients(attend, mask):
        def total(qkv):
            output = attend(*qkv, mask=mask)
            return jnp.sum(output * target), output

        return jax.jit(jax.grad(total, has_aux=True))(qkv)

    for padded in (mask, mask.replace(weights=weights)):
        got = with_gradients(subchunked, padded)
        chex.assert_shape(got[1], (2, 2, time, 4))
        chex.assert_trees_all_close(got, with_gradients(dense, padded), atol=2e-5)
    assert any(subchunk is not None for subchunk in subchunks)


@pytest.mark.parametrize(("implementation", "mask"), IMPLEMENTATIONS)
def test_gradient_of_subchunks_in_float64_with_dropout(few_scores, key, implementation, mask):
    """So the dropout masks recomputed in the backward pass equal those of the forward pass."""
    with jax.enable_x64(True):
        *qkv, _ = random_heads(80, np.float64, batch=1, head_dim=2)

        def drop(weights, subchunk, chunk=0):
            return dropout(weights, 0.5, jax.random.fold_in(key, subchunk)[None])

        def attend(query, key, value):
            return jnp.sin(implementation(query, key, value, mask, dropout=drop))

        check_grads(jax.jit(attend), qkv, order=1)


@pytest.mark.parametrize(("implementation", "mask"), IMPLEMENTATIONS[::2])
def test_subchunks_have_equal_sizes_and_a_minimum_size(monkeypatch, implementation, mask):
    def sizes(time, max_scores):
        monkeypatch.setattr(chunked_attention, "MAX_SCORES", max_scores)
        query, key, value, _ = random_heads(time)
        shapes = []

        def record(weights, subchunk, chunk=0):
            shapes.append(weights.shape[2:-1])
            return weights

        output = implementation(query, key, value, mask, dropout=record)
        dense = dot_product_attention(query, key, value, mask.to_array(time))
        np.testing.assert_allclose(output, dense, atol=1e-5)
        return set(shapes)

    monkeypatch.setattr(chunked_attention, "MAX_CHUNKS", 1)
    if implementation is block_local_attention:
        row = 2 * 16 * 32  # scores of a block, both heads
        assert sizes(100, 1) == {(1, 16)}
        assert sizes(100, 3 * row) == {(3, 16)}
        assert sizes(100, 6 * row) == {(4, 16)}  # of seven, in two subchunks
        assert sizes(100, 7 * row) == {(7, 16)}
    else:
        assert sizes(200, 1) == {(64,)}
        assert sizes(200, 2 * 200 * 199) == {(100,)}
        assert sizes(200, 2 * 200 * 200) == {(200,)}
        assert sizes(50, 1) == {(50,)}


@pytest.mark.parametrize(("implementation", "mask"), IMPLEMENTATIONS[::2])
def test_bfloat16_gradients_are_accumulated_in_float32(monkeypatch, implementation, mask):
    *qkv, target = random_heads(512, batch=1)

    def gradients(qkv, max_scores):
        monkeypatch.setattr(chunked_attention, "MAX_SCORES", max_scores)
        total = jax.grad(lambda *qkv: jnp.sum(implementation(*qkv, mask) * target), (0, 1, 2))
        return [np.asarray(x, np.float32) for x in jax.jit(total)(*qkv)]

    narrow = [jnp.asarray(x, jnp.bfloat16) for x in qkv]
    monkeypatch.setattr(chunked_attention, "MAX_CHUNKS", 1)
    monkeypatch.setattr(chunked_attention, "MIN_CHUNK", 2)
    exact = gradients([x.astype(jnp.float32) for x in narrow], 2**30)
    for got, whole, expected in zip(
        gradients(narrow, 2**12), gradients(narrow, 2**30), exact, strict=True
    ):
        assert np.abs(got - expected).max() < 1.5 * np.abs(whole - expected).max()


@pytest.mark.parametrize(
    ("implementation", "mask"),
    [(block_local_attention, AttentionMask(window=64)), IMPLEMENTATIONS[2]],
)
def test_bfloat16_rounding_does_not_depend_on_subchunks(monkeypatch, implementation, mask):
    *qkv, target = random_heads(256)
    subchunks = []

    def record(weights, subchunk, chunk=0):
        subchunks.append(subchunk)
        return weights

    def gradients(precision, max_scores):
        monkeypatch.setattr(chunked_attention, "MAX_SCORES", max_scores)
        attend = functools.partial(implementation, mask=mask, precision=precision, dropout=record)
        return jax.jit(jax.grad(lambda *qkv: jnp.sum(attend(*qkv) * target), (0, 1, 2)))(*qkv)

    monkeypatch.setattr(chunked_attention, "MAX_CHUNKS", 1)
    whole, strict = gradients("bfloat16", 2**30), gradients("highest", 2**12)
    assert subchunks[0] is None
    assert subchunks[-1] is not None
    chex.assert_trees_all_close(gradients("bfloat16", 2**12), whole, atol=1e-5)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(whole, strict, strict=True)) > 1e-3


@pytest.mark.parametrize("window_size", [16, None])
def test_subchunks_of_one_layer_have_independent_dropout_masks(monkeypatch, key, window_size):
    """With values of one, an output is twice the kept share of a query's weights."""
    subchunks, rows = 4, 256 // 4
    monkeypatch.setattr(chunked_attention, "MAX_CHUNKS", 2)
    monkeypatch.setattr(chunked_attention, "MAX_SCORES", rows * (48 if window_size else 256))
    mask = AttentionMask(window=window_size, causal=False)
    assert dispatch.prefer_block_local(mask.window, 256) == (window_size is not None)
    layer = MultiHeadAttention(embed_dim=1, num_heads=1, length=256, dropout=0.5)
    x = np.ones((1, 256, 1), np.float32)
    params = jax.tree.map(jnp.ones_like, layer.init(key, x)["params"])
    params["out"]["bias"] = jnp.zeros(1)
    kept = layer.apply({"params": params}, x, mask, dropout_keys=key[None])[0, :, 0]
    shares = np.asarray(kept).reshape(subchunks, rows)
    assert np.abs(np.corrcoef(shares)[np.triu_indices(subchunks, 1)]).max() < 4 / rows**0.5
    assert abs(shares.mean() - 1) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("implementation", "mask"),
    [(block_local_attention, AttentionMask(window=64)), (query_chunked_attention, AttentionMask())],
)
def test_memory_of_a_compiled_gradient_is_linear_in_the_length(monkeypatch, implementation, mask):
    def memory(time, max_scores):
        monkeypatch.setattr(chunked_attention, "MAX_SCORES", max_scores)
        shape = jax.ShapeDtypeStruct((1, 2, time, 8), jnp.float32)
        attend = functools.partial(implementation, mask=mask)
        total = jax.grad(lambda *qkv: attend(*qkv).sum(), (0, 1, 2))
        compiled = jax.jit(total).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    shorter, longer = (memory(time, 2**15) for time in (1024, 2048))
    assert longer < 2.2 * shorter
    assert longer < 0.5 * memory(2048, 2**30)
