"""What long sequences do, on short ones: attention in groups whose scores are computed twice."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import local_attention, positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.dropout import dropout
from jaxlabs.layers.local_attention import (
    AttentionMask,
    block_local_attention,
    query_chunked_attention,
)
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

FORMS = [
    (block_local_attention, AttentionMask(16)),
    (block_local_attention, AttentionMask(16, causal=False)),
    (query_chunked_attention, AttentionMask()),
    (query_chunked_attention, AttentionMask(30, causal=False)),
]


@pytest.fixture
def few_scores(monkeypatch):
    """Groups of at most two blocks of 16 queries, or of about as many scores of a slice."""
    monkeypatch.setattr(local_attention, "MAX_SCORES", 2 * 2 * 16 * 32)
    monkeypatch.setattr(local_attention, "MIN_CHUNK", 8)
    monkeypatch.setattr(local_attention, "MAX_CHUNKS", 2)


def drawn(time, dtype=np.float32, batch=2, num_heads=2, head_dim=4):
    """Queries, keys, values and a target, `[batch, heads, time, head_dim]`."""
    shape = (4, batch, num_heads, time, head_dim)
    return list(np.random.default_rng(time).standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("time", [80, 149])
@pytest.mark.parametrize(("form", "window"), FORMS)
def test_subchunks_equal_dense_attention_in_value_and_gradient(few_scores, form, window, time):
    *parts, target = drawn(time)
    weights = np.stack([np.arange(time) % 3 > 0, np.zeros(time, bool)])
    slopes, index, groups = positions.alibi_slopes(2), np.arange(time), []

    def grouped(*parts, window):
        def look(weights, group, part=0):
            groups.append(group)
            return weights

        return form(*parts, window, slopes=slopes, dropout=look)

    def dense(*parts, window):
        bias = positions.alibi_bias(slopes, index, index)
        return dot_product_attention(*parts, window.to_array(time), bias=bias)

    def with_gradients(attend, window):
        def total(parts):
            output = attend(*parts, window=window)
            return jnp.sum(output * target), output

        return jax.jit(jax.grad(total, has_aux=True))(parts)

    for padded in (window, window.replace(weights=weights)):
        got = with_gradients(grouped, padded)
        chex.assert_shape(got[1], (2, 2, time, 4))
        chex.assert_trees_all_close(got, with_gradients(dense, padded), atol=2e-5)
    assert any(group is not None for group in groups)


@pytest.mark.parametrize(("form", "window"), FORMS)
def test_gradient_of_subchunks_in_float64_with_dropout(few_scores, key, form, window):
    """So the masks that are drawn again on the way back are those that acted forth."""
    with jax.enable_x64(True):
        *parts, _ = drawn(80, np.float64, batch=1, head_dim=2)

        def drop(weights, group, part=0):
            return dropout(weights, 0.5, jax.random.fold_in(key, group)[None])

        def attend(query, key, value):
            return jnp.sin(form(query, key, value, window, dropout=drop))

        check_grads(jax.jit(attend), parts, order=1)


@pytest.mark.parametrize(("form", "window"), FORMS[::2])
def test_subchunks_have_equal_sizes_and_a_minimum_size(monkeypatch, form, window):
    def sizes(time, most):
        monkeypatch.setattr(local_attention, "MAX_SCORES", most)
        query, key, value, _ = drawn(time)
        shapes = []

        def look(weights, group, part=0):
            shapes.append(weights.shape[2:-1])
            return weights

        output = form(query, key, value, window, dropout=look)
        dense = dot_product_attention(query, key, value, window.to_array(time))
        np.testing.assert_allclose(output, dense, atol=1e-5)
        return set(shapes)

    monkeypatch.setattr(local_attention, "MAX_CHUNKS", 1)
    if form is block_local_attention:
        row = 2 * 16 * 32  # scores of a block, both heads
        assert sizes(100, 1) == {(1, 16)}
        assert sizes(100, 3 * row) == {(3, 16)}
        assert sizes(100, 6 * row) == {(4, 16)}  # of seven, in two groups
        assert sizes(100, 7 * row) == {(7, 16)}
    else:
        assert sizes(200, 1) == {(64,)}
        assert sizes(200, 2 * 200 * 199) == {(100,)}
        assert sizes(200, 2 * 200 * 200) == {(200,)}
        assert sizes(50, 1) == {(50,)}


@pytest.mark.parametrize(("form", "window"), FORMS[::2])
def test_bfloat16_gradients_are_accumulated_in_float32(monkeypatch, form, window):
    *parts, target = drawn(512, batch=1)

    def gradients(parts, most):
        monkeypatch.setattr(local_attention, "MAX_SCORES", most)
        total = jax.grad(lambda *parts: jnp.sum(form(*parts, window) * target), (0, 1, 2))
        return [np.asarray(part, np.float32) for part in jax.jit(total)(*parts)]

    narrow = [jnp.asarray(part, jnp.bfloat16) for part in parts]
    monkeypatch.setattr(local_attention, "MAX_CHUNKS", 1)
    monkeypatch.setattr(local_attention, "MIN_CHUNK", 2)
    exact = gradients([part.astype(jnp.float32) for part in narrow], 2**30)
    for got, whole, expected in zip(
        gradients(narrow, 2**12), gradients(narrow, 2**30), exact, strict=True
    ):
        assert np.abs(got - expected).max() < 1.5 * np.abs(whole - expected).max()


@pytest.mark.parametrize(("form", "window"), [(block_local_attention, AttentionMask(64)), FORMS[2]])
def test_bfloat16_rounding_does_not_depend_on_subchunks(monkeypatch, form, window):
    *parts, target = drawn(256)
    groups = []

    def look(weights, group, part=0):
        groups.append(group)
        return weights

    def gradients(precision, most):
        monkeypatch.setattr(local_attention, "MAX_SCORES", most)
        attend = functools.partial(form, window=window, precision=precision, dropout=look)
        return jax.jit(jax.grad(lambda *parts: jnp.sum(attend(*parts) * target), (0, 1, 2)))(*parts)

    monkeypatch.setattr(local_attention, "MAX_CHUNKS", 1)
    whole, strict = gradients("bfloat16", 2**30), gradients("highest", 2**12)
    assert groups[0] is None
    assert groups[-1] is not None
    chex.assert_trees_all_close(gradients("bfloat16", 2**12), whole, atol=1e-5)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(whole, strict, strict=True)) > 1e-3


@pytest.mark.parametrize("keys_seen", [16, None])
def test_subchunks_of_one_layer_have_independent_dropout_masks(monkeypatch, key, keys_seen):
    """With values of one, an output is the share of a query's weights that is kept, doubled."""
    groups, rows = 4, 256 // 4
    monkeypatch.setattr(local_attention, "MAX_CHUNKS", 2)
    monkeypatch.setattr(local_attention, "MAX_SCORES", rows * (48 if keys_seen else 256))
    window = AttentionMask(keys_seen, causal=False)
    assert window.prefer_banded(256) == (keys_seen is not None)
    layer = MultiHeadAttention(embed_dim=1, num_heads=1, length=256, dropout=0.5)
    x = np.ones((1, 256, 1), np.float32)
    params = jax.tree.map(jnp.ones_like, layer.init(key, x)["params"])
    params["out"]["bias"] = jnp.zeros(1)
    kept = layer.apply({"params": params}, x, window, dropout_keys=key[None])[0, :, 0]
    shares = np.asarray(kept).reshape(groups, rows)
    assert np.abs(np.corrcoef(shares)[np.triu_indices(groups, 1)]).max() < 4 / rows**0.5
    assert abs(shares.mean() - 1) < 0.1


@pytest.mark.parametrize(
    ("form", "window"),
    [(block_local_attention, AttentionMask(64)), (query_chunked_attention, AttentionMask())],
)
def test_memory_of_a_compiled_gradient_is_linear_in_the_length(monkeypatch, form, window):
    def memory(time, most):
        monkeypatch.setattr(local_attention, "MAX_SCORES", most)
        shape = jax.ShapeDtypeStruct((1, 2, time, 8), jnp.float32)
        attend = functools.partial(form, window=window)
        total = jax.grad(lambda *parts: attend(*parts).sum(), (0, 1, 2))
        compiled = jax.jit(total).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    shorter, longer = (memory(time, 2**15) for time in (1024, 2048))
    assert longer < 2.2 * shorter
    assert longer < 0.5 * memory(2048, 2**30)
