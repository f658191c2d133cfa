"""Attention within segments, in every implementation, against a mask that is written out."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers import positions
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.cpu import chunked_attention, dispatch, masked_attention
from jaxlabs.layers.cpu.chunked_attention import block_local_attention, query_chunked_attention
from jaxlabs.layers.masks import AttentionMask

pytestmark = pytest.mark.usefixtures("quickly_compiled")

IMPLEMENTATIONS = {
    "dense": masked_attention.dense_attention,
    "chunked": query_chunked_attention,
    "block_local": block_local_attention,
}
TIME = 70
# The first row has segments of 1 to 31 tokens, the second a single one of the whole row.
LENGTHS = [1, 1, 12, 2, 31, 23]
SEGMENTS = np.stack([np.repeat(np.arange(6) + 4, LENGTHS), np.zeros(TIME, int)]).astype(np.int32)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Two chunks of queries, each in subchunks; the last one is padded."""
    sizes = {"MAX_SCORES": 1000, "MIN_CHUNK": 10, "MAX_CHUNKS": 2}
    for name, size in sizes.items():
        monkeypatch.setattr(chunked_attention, name, size)


def heads_of(time=TIME, dtype=np.float64):
    """Queries, keys, values and a target, `[2, 2, time, 4]`."""
    return list(np.random.default_rng(time).standard_normal((4, 2, 2, time, 4)).astype(dtype))


def blocks(lengths, window, causal):
    """The mask of one row, segment by segment."""
    mask = np.zeros((sum(lengths), sum(lengths)), bool)
    for start, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        inside = slice(start, start + length)
        mask[inside, inside] = True
    reach = len(mask) if window is None else window
    return np.tril(np.triu(mask, 1 - reach), 0 if causal else reach - 1)


def with_gradients(attend, qkv, target):
    def total(qkv):
        output = attend(*qkv)
        return jnp.sum(output * target), output

    return jax.jit(jax.grad(total, has_aux=True))(qkv)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("window", "causal", "padded"), [(None, True, False), (20, True, True), (7, False, False)]
)
def test_segments_equal_the_explicit_mask_in_float64(implementation, window, causal, padded):
    weights = np.stack([np.arange(TIME) % 5 > 0, np.ones(TIME, bool)]) if padded else None
    explicit = np.stack([blocks(row, window, causal) for row in (LENGTHS, [TIME])])[:, None]
    explicit = explicit if weights is None else explicit & weights[:, None, None]
    mask = AttentionMask(causal, window, weights, SEGMENTS)
    np.testing.assert_array_equal(mask.to_array(TIME), explicit)
    with jax.enable_x64(True):
        *qkv, target = heads_of()
        slopes = positions.alibi_slopes(2)
        bias = positions.alibi_bias(slopes, jnp.arange(TIME), jnp.arange(TIME))
        plain = functools.partial(dot_product_attention, mask=explicit, bias=bias)
        expected = with_gradients(plain, qkv, target)
        attend = functools.partial(IMPLEMENTATIONS[implementation], mask=mask, slopes=slopes)
        chex.assert_trees_all_close(with_gradients(attend, qkv, target), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("implementation", "window"), [("dense", 16), ("chunked", None), ("block_local", 16)]
)
def test_one_segment_equals_no_segments_to_the_bit(implementation, window):
    *qkv, target = heads_of(dtype=np.float32)
    with_one = AttentionMask(window=window, segments=np.full((2, TIME), 3, np.int32))
    found, expected = (
        with_gradients(functools.partial(IMPLEMENTATIONS[implementation], mask=mask), qkv, target)
        for mask in (with_one, AttentionMask(window=window))
    )
    chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize("time", [1, 9])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_segment_of_one_token_attends_to_itself(implementation, time):
    query, key, value, _ = heads_of(time, np.float32)
    segments = np.tile(np.arange(time, dtype=np.int32), (2, 1))
    output = IMPLEMENTATIONS[implementation](
        query, key, value, AttentionMask(window=3, segments=segments)
    )
    np.testing.assert_allclose(output, value, atol=1e-6)


def test_segments_are_not_given_to_cudnn(monkeypatch):
    found = []
    monkeypatch.setattr(dispatch, "has_cudnn_attention", lambda: True)
    monkeypatch.setattr(
        dispatch,
        "attention_implementation",
        lambda platform, **options: found.append(options) or "dense",
    )
    *qkv, _ = heads_of(9, np.float32)
    for segments in (None, np.zeros((2, 9), np.int32)):
        masked_attention.masked_attention(*qkv, AttentionMask(segments=segments))
    assert [options["plain"] for options in found] == 3 * [True] + 3 * [False]
