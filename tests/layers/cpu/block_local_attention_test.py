import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import masks, positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.chunked_attention import block_local_attention
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import MultiHeadAttention

LENGTHS_AND_WINDOWS = [(1, 3), (5, 1), (6, 3), (7, 3), (8, 8), (8, 10**6)]


def heads_of(time, dtype=np.float32, batch=2, num_heads=2, head_dim=4):
    random = np.random.default_rng(time)
    return [
        random.standard_normal((batch, num_heads, time, head_dim)).astype(dtype) for _ in range(3)
    ]


def padding_of(time):
    """Two sequences: one with interior and trailing padding, one of padding alone."""
    weights = np.ones((2, time), np.float32)
    weights[0, 1::3] = 0
    weights[0, time - time // 4 :] = 0
    weights[1] = 0
    return weights


def dense(query, key, value, mask, *, slopes=None):
    index = jnp.arange(query.shape[2])
    bias = None if slopes is None else positions.alibi_bias(slopes, index, index)
    return dot_product_attention(query, key, value, mask.to_array(len(index)), bias=bias)


@jax.jit
def both(qkv, target, mask, slopes=None):
    """Outputs of the block-local and the dense implementation, and gradients of a sum over them."""

    def with_gradients(attend):
        def total(qkv):
            output = attend(*qkv, mask, slopes=slopes)
            return jnp.sum(output * target), output

        return jax.grad(total, has_aux=True)(qkv)

    return with_gradients(block_local_attention), with_gradients(dense)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("time", "window"), LENGTHS_AND_WINDOWS)
def test_block_local_equals_dense_attention_in_value_and_gradient(time, window, causal):
    qkv, target = heads_of(time), heads_of(time)[1]
    padded = AttentionMask(causal, window, padding_of(time)), positions.alibi_slopes(2)
    whole = AttentionMask(causal, window, np.ones((2, time), np.float32)), np.zeros(2, np.float32)
    for options in (padded, whole):
        local, expected = both(qkv, target, *options)
        chex.assert_trees_all_close(local, expected, atol=1e-5)
    if time == 7:
        plain, expected = both(qkv, target, AttentionMask(causal, window))
        chex.assert_trees_all_close(plain, expected, atol=1e-5)
        chex.assert_trees_all_close(plain, local, atol=1e-5)


def test_a_query_sees_exactly_the_keys_of_its_window():
    expected_rows = {True: "1000000 1100000 1110000 0111000 0011100 0001110 0000111"}
    expected_rows[False] = "1110000 1111000 1111100 0111110 0011111 0001111 0000111"
    query, key, value = heads_of(7)

    for causal, rows in expected_rows.items():

        def outputs(value, causal=causal):
            mask = AttentionMask(causal, 3)
            return block_local_attention(query, key, value, mask).sum(axis=(0, 1, 3))

        influence = np.abs(jax.jit(jax.jacobian(outputs))(value)).sum(axis=(1, 2, 4))
        expected = [[digit == "1" for digit in row] for row in rows.split()]
        np.testing.assert_array_equal(influence > 0, expected)


def test_gradient_in_float64():
    with jax.enable_x64(True):
        qkv = heads_of(5, np.float64, batch=1, num_heads=1, head_dim=2)
        mask = AttentionMask(window=2, weights=np.array([[1, 1, 0, 1, 1]]))

        def attend(query, key, value):
            return jnp.sin(block_local_attention(query, key, value, mask))

        assert attend(*qkv).dtype == jnp.float64
        check_grads(jax.jit(attend), qkv, order=1)


def test_value_and_gradient_are_finite_at_scores_of_ten_thousand():
    query, key, value = heads_of(7)
    total = jax.value_and_grad(
        lambda q, k: jnp.sum(jnp.sin(block_local_attention(q, k, value, AttentionMask(window=3)))),
        (0, 1),
    )
    output, gradients = jax.jit(total)(query * 1e3, key * 10)
    assert np.isfinite(output)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_dropout_is_applied_to_the_attention_weights():
    query, key, value = heads_of(7)
    shapes = []

    def halve_the_first_query_of_every_block(weights, subchunk):
        shapes.append(weights.shape)
        return weights.at[:, :, :, 0].multiply(0.5)

    whole = block_local_attention(query, key, value, AttentionMask(window=3))
    halved = block_local_attention(
        query, key, value, AttentionMask(window=3), dropout=halve_the_first_query_of_every_block
    )
    assert shapes == [(2, 2, 3, 3, 6)]
    factor = np.array([0.5, 1, 1, 0.5, 1, 1, 0.5])[None, None, :, None]
    np.testing.assert_allclose(halved, whole * factor, rtol=1e-6)


def test_softmax_of_bfloat16_is_computed_in_float32():
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in heads_of(7)]
    seen = []
    output = block_local_attention(
        *narrow,
        AttentionMask(window=3),
        dropout=lambda weights, subchunk: seen.append(weights.dtype) or weights,
    )
    assert seen == [jnp.float32]
    assert output.dtype == jnp.bfloat16


def test_a_window_below_one_is_refused():
    for attend in (block_local_attention, dense):
        with pytest.raises(ValueError, match="window: 0 is not accepted; at least 1"):
            attend(*heads_of(3), AttentionMask(window=0))


def test_flops_and_memory_of_block_local_attention_are_linear_in_the_length():
    def cost(attend, time):
        shape = jax.ShapeDtypeStruct((1, 2, time, 8), jnp.float32)
        total = jax.grad(lambda *qkv: attend(*qkv, AttentionMask(window=32)).sum(), (0, 1, 2))
        compiled = jax.jit(total).lower(shape, shape, shape).compile()
        return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes

    local = [cost(block_local_attention, time) for time in (1024, 2048, 4096)]
    for shorter, longer in itertools.pairwise(local):
        np.testing.assert_allclose(np.divide(longer, shorter), 2, rtol=0.1)
    materialized = [cost(dense, time) for time in (1024, 2048)]
    assert (np.divide(*materialized[::-1]) > 3.5).all()  # quadratic, as a check of the measurement
    assert (np.divide(materialized[0], local[0]) > 8).all()


# MultiHeadAttention


def module(**options):
    """A layer, its initial variables, its compiled `apply` and an input."""
    layer = MultiHeadAttention(**{"embed_dim": 8, "num_heads": 2, "length": 256} | options)
    x = np.random.default_rng(0).standard_normal((2, 150, 8)).astype(np.float32)
    return layer, jax.jit(layer.init)(jax.random.key(0), x), jax.jit(layer.apply), x


@pytest.mark.parametrize("kind", ["rotary", "alibi"])
def test_module_output_equals_that_with_the_materialized_mask(kind):
    _, variables, apply, x = module(positions=kind)
    weights = np.ones((2, 150), np.float32)
    weights[1, 90:] = 0
    local = AttentionMask(window=7), AttentionMask(window=7, causal=False, weights=weights)
    chunked = AttentionMask(), AttentionMask(window=100), AttentionMask(weights=weights)
    assert [dispatch.prefer_block_local(mask.window, 150) for mask in local + chunked] == [
        True
    ] * 2 + [False] * 3
    for mask in local + chunked:
        materialized = apply(variables, x, mask.to_array(150))
        np.testing.assert_allclose(apply(variables, x, mask), materialized, atol=1e-5)
        assert "2x150x150xf32" not in apply.lower(variables, x, mask).as_text()
    assert "2x150x150xf32" in apply.lower(variables, x, mask.to_array(150)).as_text()


def test_mask_is_materialized_when_weights_are_sown():
    layer, variables, _, x = module()
    record = jax.jit(functools.partial(layer.apply, mutable="intermediates"))
    _, sown = record({"params": variables["params"]}, x, AttentionMask(window=7))
    (attention,) = sown["intermediates"]["weights"]
    distance = np.arange(150)[:, None] - np.arange(150)[None]
    np.testing.assert_array_equal(attention[0, 0] > 0, (distance >= 0) & (distance < 7))


@pytest.mark.parametrize("window_size", [5, None])
def test_cached_decode_continues_a_prefill_with_a_local_mask(window_size):
    layer, variables, apply, x = module(positions="rotary")
    mask, row = AttentionMask(window=window_size), masks.decode_mask(149, 256, window_size)
    full = apply(variables, x, mask)
    prefill = jax.jit(functools.partial(layer.apply, method="prefill"))
    decode = jax.jit(functools.partial(layer.apply, method="decode"))
    prefilled, cache = prefill(variables, x[:, :149], mask)
    np.testing.assert_allclose(prefilled, full[:, :149], atol=1e-5)
    last, _ = decode(variables, x[:, 149:], cache, 149, row)
    np.testing.assert_allclose(last, full[:, 149:], atol=1e-5)


@pytest.mark.parametrize("window_size", [7, None])
def test_attention_dropout_depends_on_the_keys_of_the_examples(key, window_size):
    _, variables, apply, x = module(dropout=0.5)
    keys, mask = jax.random.split(key, 2), AttentionMask(window=window_size)
    still = apply(variables, x, mask)
    dropped = apply(variables, x, mask, dropout_keys=keys)
    assert (np.abs(dropped - still).max(axis=(1, 2)) > 1e-3).all()
    alone = apply(variables, x[1:], mask, dropout_keys=keys[1:])
    np.testing.assert_allclose(alone, dropped[1:], atol=1e-6)


def test_chunks_of_one_layer_have_independent_dropout_masks(key):
    """With values of one, an output is twice the kept share of a query's weights."""
    layer = MultiHeadAttention(embed_dim=1, num_heads=1, length=256, dropout=0.5)
    ones = {"query_kernel": np.zeros((1, 1)), "key_kernel": np.zeros((1, 1))}
    ones |= {"value_kernel": np.ones((1, 1))}
    ones["out"] = {"kernel": np.ones((1, 1)), "bias": np.zeros(1)}
    ones = jax.tree.map(lambda leaf: leaf.astype(np.float32), ones)
    full = AttentionMask(causal=False)
    x, keys = np.ones((1, 256, 1), np.float32), jax.random.split(key, 1)
    kept = layer.apply({"params": ones}, x, full, dropout_keys=keys)[0, :, 0]
    chunks = np.asarray(kept).reshape(4, 64)
    assert np.abs(np.corrcoef(chunks)[np.triu_indices(4, 1)]).max() < 4 / 64**0.5
    assert abs(chunks.mean() - 1) < 0.05


@pytest.mark.parametrize(("time", "window_size"), [(1, None), (63, None), (64, None), (150, 9)])
def test_bfloat16_rounds_the_operands_only_for_many_queries(time, window_size):
    layer, variables, _, x = module(embed_dim=8, precision="bfloat16")
    mask = AttentionMask(window=window_size)
    assert dispatch.prefer_block_local(mask.window, time) == (window_size is not None)
    lowered = jax.jit(layer.apply).lower(variables, x[:, :time], mask).as_text()
    shape = rf"\d+x{window_size}x{2 * window_size}" if window_size else f"{time}x{time}"
    scores = re.findall(rf"dot_general.*-> tensor<2x2x{shape}xf32>", lowered)
    assert len(scores) == 1
    assert ("bf16" in scores[0]) == (time == 64)
