"""Multi-head attention: self-attention, cross-attention and with a cache."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxlabs.layers import masks
from jaxlabs.layers.decoder_block import CrossAttention
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import (
    MultiHeadAttention,
    empty_cache,
    joined_projections,
    separate_projections,
)

SIZES = {"embed_dim": 12, "num_heads": 3, "length": 8}


def module(**options):
    return MultiHeadAttention(**SIZES | options)


def tokens_of(batch=2, time=8, embed_dim=12, dtype=np.float32):
    return np.random.default_rng(3).standard_normal((batch, time, embed_dim)).astype(dtype)


KINDS = [
    {},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"qk_norm": True, "qkv_bias": True, "positions": "rotary"},
]


@pytest.mark.parametrize("options", KINDS)
def test_module_equals_projection_attention_and_projection_in_numpy(key, options, reference):
    x, layer = tokens_of(), module(**options)
    params = layer.init(key, x)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    def project(name):
        y = x @ params[f"{name}_kernel"]
        y = y + params[f"{name}_bias"][None, None] if options.get("qkv_bias") else y
        y = np.stack([y[..., :4], y[..., 4:8], y[..., 8:]], axis=1)
        if options.get("qk_norm") and name != "value":
            y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
        if options.get("positions") == "rotary" and name != "value":
            angles = np.arange(8)[:, None] * 10_000.0 ** (-np.array([0, 2]) / 4)[None]
            rotated = (y[..., :2] + 1j * y[..., 2:]) * np.exp(1j * angles)[None, None]
            y = np.concatenate([rotated.real, rotated.imag], axis=-1)
        return np.asarray(y)

    bias = 0.0
    if options.get("positions") == "alibi":
        distance = np.arange(8)[:, None] - np.arange(8)[None, :]
        bias = -(2.0 ** (-8 * np.arange(1, 4) / 3))[:, None, None] * np.abs(distance)[None]
        bias = bias[None]
    query, key_, value = (project(name) for name in ("query", "key", "value"))
    attended = reference(query, key_, value, np.asarray(masks.causal(8)), bias)
    joined = np.concatenate([attended[:, head] for head in range(3)], axis=-1)
    expected = joined @ params["out"]["kernel"] + params["out"]["bias"][None, None]
    got = layer.apply({"params": params}, x, masks.causal(8))
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "qkv_bias": True}])
def test_cross_attention_ignores_the_padding_of_the_memory(key, options, reference):
    x, memory = tokens_of(time=3), tokens_of(time=5)[:, ::-1]
    layer = CrossAttention(**SIZES | options)
    valid = jnp.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    mask = masks.padding(valid)
    params = layer.init(key, x, memory, mask)["params"]
    chex.assert_trees_all_equal_shapes(params, module(**options).init(key, x)["params"])
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    def project(name, source):
        y = source @ params[f"{name}_kernel"]
        y = y + params[f"{name}_bias"][None, None] if options else y
        y = np.stack([y[..., :4], y[..., 4:8], y[..., 8:]], axis=1)
        if options and name != "value":
            y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
        return np.asarray(y)

    heads = project("query", x), project("key", memory), project("value", memory)
    attended = reference(*heads, np.asarray(mask))
    joined = np.concatenate([attended[:, head] for head in range(3)], axis=-1)
    expected = joined @ params["out"]["kernel"] + params["out"]["bias"][None, None]
    got, sown = layer.apply({"params": params}, x, memory, mask, mutable=["intermediates"])
    np.testing.assert_allclose(got, expected, atol=2e-5)
    (weights,) = sown["intermediates"]["weights"]
    chex.assert_shape(weights, (2, 3, 3, 5))
    np.testing.assert_array_equal(weights[1, :, :, 2:], 0)


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_relative_positions_in_cross_attention_are_refused(key, positions):
    x = tokens_of()
    with pytest.raises(ValueError, match=f"{positions} positions: not accepted"):
        CrossAttention(**SIZES, positions=positions).init(key, x, x)


def test_a_local_mask_in_cross_attention_is_refused(key):
    x = tokens_of()
    with pytest.raises(ValueError, match="not accepted in cross-attention"):
        CrossAttention(**SIZES).init(key, x, x, AttentionMask(window=3))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("options", KINDS)
def test_cached_decode_equals_full_attention(key, options, window):
    x, layer = tokens_of(batch=3), module(**options)
    variables = layer.init(key, x)
    mask = masks.causal(8) if window is None else AttentionMask(window=window).to_array(8)
    full = layer.apply(variables, x, mask)

    @jax.jit
    def decode(cache, position):
        row = masks.decode_mask(position, 8, window)
        token = jax.lax.dynamic_slice_in_dim(x, position, 1, axis=1)
        return layer.apply(variables, token, cache, position, row, method="decode")

    cache = empty_cache(3, 3, 8, 12)
    for position in range(3):
        out, cache = decode(cache, position)
        np.testing.assert_allclose(out[:, 0], full[:, position], atol=1e-5)
    prefilled, cache = layer.apply(variables, x[:, :5], mask[:, :, :5, :5], method="prefill")
    np.testing.assert_allclose(prefilled, full[:, :5], atol=1e-6)
    for position in range(5, 8):
        out, cache = decode(cache, position)
        np.testing.assert_allclose(out[:, 0], full[:, position], atol=1e-5)


def test_attention_dropout_depends_on_the_keys_of_the_examples(key):
    x, layer = tokens_of(), module(dropout=0.5)
    variables, mask = layer.init(key, x), masks.causal(8)
    keys = jax.random.split(key, 2)
    still = layer.apply(variables, x, mask)
    np.testing.assert_array_equal(still, module().apply(variables, x, mask))
    dropped = layer.apply(variables, x, mask, dropout_keys=keys)
    assert (np.abs(dropped - still).max(axis=(1, 2)) > 1e-3).all()
    alone = layer.apply(variables, x[1:], mask, dropout_keys=keys[1:])
    np.testing.assert_allclose(alone, dropped[1:], atol=1e-6)


def test_weights_and_scores_are_sown_into_intermediates(key):
    x, layer = tokens_of(), module()
    variables = {"params": layer.init(key, x)["params"]}
    _, sown = layer.apply(variables, x, masks.causal(8), mutable="intermediates")
    (weights,), (scores,) = (sown["intermediates"][name] for name in ("weights", "scores"))
    chex.assert_shape([weights, scores], (2, 3, 8, 8))
    masked = np.where(masks.causal(8), scores, -np.inf)
    np.testing.assert_allclose(weights, softmax(masked, axis=-1), atol=1e-6)


def test_qkv_have_no_bias_by_default(key):
    names = {"query_kernel", "key_kernel", "value_kernel", "out"}
    assert module().init(key, tokens_of())["params"].keys() == names
    biased = module(qkv_bias=True).init(key, tokens_of())["params"]
    assert biased.keys() == names | {"query_bias", "key_bias", "value_bias"}


@pytest.mark.parametrize("time", [1, 2])
def test_short_sequences_and_batch_of_one(key, time):
    x, layer = tokens_of(batch=1, time=time), module(positions="rotary")
    out = layer.apply(layer.init(key, x), x, AttentionMask(window=5).to_array(time))
    chex.assert_shape(out, (1, time, 12))
    assert np.isfinite(out).all()


def test_heads_that_do_not_divide_embed_dim_are_refused(key):
    with pytest.raises(ValueError, match="5 heads do not divide an embed_dim of 12"):
        module(num_heads=5).init(key, tokens_of())


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_joined_and_separate_projections_are_equal(dtype, count, batch):
    x = jnp.asarray(tokens_of(batch), dtype)
    kernels = [jnp.asarray(tokens_of(1, 12)[0] * scale, dtype) for scale in range(1, count + 1)]

    def with_gradients(form):
        def total(x, kernels):
            y = form("default", x, *kernels)
            return (y * y).sum(dtype=np.float32), y

        return jax.grad(total, (0, 1), has_aux=True)(x, kernels)

    found, expected = map(with_gradients, (joined_projections, separate_projections))
    chex.assert_shape(found[1], (batch, 8, count, 12))
    tolerance = 1e-4 if dtype == np.float32 else 0.05
    chex.assert_trees_all_close(found, expected, rtol=tolerance, atol=10 * tolerance)


def test_only_cpus_join_the_kernels(lower_elsewhere):
    attention, x = module(), tokens_of()
    params = attention.init(jax.random.key(0), x)
    step = jax.jit(lambda params, x: attention.apply(params, x))
    assert "tensor<12x36xf32>" in step.lower(params, x).as_text()
    assert "tensor<12x36xf32>" not in lower_elsewhere(step, params, x)
