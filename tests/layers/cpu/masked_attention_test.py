"""Implementations of causal attention are equal; memory of a training step at 16,384 tokens."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers import positions
from jaxlabs.layers.cpu import dispatch, masked_attention
from jaxlabs.layers.cpu.chunked_attention import block_local_attention, query_chunked_attention
from jaxlabs.layers.masks import AttentionMask

TOKENS = 16_384
REMAT = functools.partial(query_chunked_attention, remat=True)
XLA = functools.partial(masked_attention.cudnn_attention, implementation="xla")


def random_heads(time, batch=2):
    """Queries, keys, values and a target, `[batch, 2, time, 4]`."""
    return list(np.random.default_rng(time).standard_normal((4, batch, 2, time, 4), np.float32))


def with_gradients(attend, qkv, target):
    def total(qkv):
        output = attend(*qkv)
        return jnp.sum(output * target), output

    return jax.jit(jax.grad(total, has_aux=True))(qkv)


@pytest.mark.parametrize("window", [None, 1, 20])
def test_the_arguments_for_cudnn_give_the_mask(window):
    """By JAX's own attention, which takes the same arguments; the window counts the query."""
    *qkv, target = random_heads(50)
    mask = AttentionMask(window=window)
    expected = with_gradients(
        functools.partial(masked_attention.dense_attention, mask=mask), qkv, target
    )
    found = with_gradients(functools.partial(XLA, mask=mask), qkv, target)
    chex.assert_trees_all_close(found, expected, atol=2e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_rematerialized_chunks_equal_dense_attention(padded):
    *qkv, target = random_heads(150)
    weights = np.stack([np.arange(150) % 3 > 0, np.zeros(150, bool)]) if padded else None
    options = {"mask": AttentionMask(weights=weights), "slopes": positions.alibi_slopes(2)}
    expected, found = (
        with_gradients(functools.partial(implementation, **options), qkv, target)
        for implementation in (masked_attention.dense_attention, REMAT)
    )
    chex.assert_trees_all_close(found, expected, atol=2e-5)


def test_the_form_of_each_platform_is_lowered():
    heads = jax.ShapeDtypeStruct((1, 2, 256, 8), jnp.float32)
    attend = jax.jit(lambda *qkv: masked_attention.masked_attention(*qkv, AttentionMask()))
    traced = attend.trace(heads, heads, heads)
    cpu, tpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu"))
    assert "1x2x256x256xf32" in tpu
    assert "1x2x256x256xf32" not in cpu
    assert "1x2x64x256xf32" in cpu


def step_bytes(implementation, mask, time=TOKENS):
    """Temporary memory of the compiled forward and backward pass of one head, in bytes."""
    heads = jax.ShapeDtypeStruct((1, 1, time, 8), jnp.float32)
    total = jax.grad(lambda *qkv: implementation(*qkv, mask).sum(), (0, 1, 2))
    compiled = jax.jit(total).lower(heads, heads, heads).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="bounds of XLA for CPUs")
@pytest.mark.parametrize(
    ("implementation", "mask"),
    [
        (masked_attention.masked_attention, AttentionMask()),
        (REMAT, AttentionMask()),
        (block_local_attention, AttentionMask(window=256)),
    ],
)
def test_memory_of_a_step_at_16384_tokens_is_far_below_that_of_all_scores(implementation, mask):
    scores = 4 * TOKENS**2
    assert step_bytes(implementation, mask) < scores / 10


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="bounds of XLA for CPUs")
def test_the_dense_form_keeps_all_scores_and_is_not_used_beyond_two_thousand_keys():
    dense = masked_attention.dense_attention
    assert step_bytes(dense, AttentionMask()) > 4 * TOKENS**2
    options = {"dtype": jnp.float32, "head_dim": 8, "causal": True, "plain": True}
    for platform in ("cpu", "cuda", "default"):
        implementation = dispatch.attention_implementation(
            platform, time=TOKENS, window=None, **options
        )
        assert implementation in ("flash", "remat")
