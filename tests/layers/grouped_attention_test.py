"""What long sequences do, on short ones: attention in groups whose scores are computed twice."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import positions, windowed_attention
from jaxlabs.layers.attention import dot_product_attention
from jaxlabs.layers.dropout import dropout
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.layers.windowed_attention import LocalWindow, banded_attention, sliced_attention

FORMS = [
    (banded_attention, LocalWindow(16)),
    (banded_attention, LocalWindow(16, causal=False)),
    (sliced_attention, LocalWindow()),
    (sliced_attention, LocalWindow(30, causal=False)),
]


@pytest.fixture
def few_scores(monkeypatch):
    """Groups of at most two blocks of 16 queries, or of about as many scores of a slice."""
    monkeypatch.setattr(windowed_attention, "MOST_SCORES", 2 * 2 * 16 * 32)


def drawn(time, dtype=np.float32, batch=2, heads=2, head_dim=4):
    """Queries, keys, values and a target, `[batch, heads, time, head_dim]`."""
    shape = (4, batch, heads, time, head_dim)
    return list(np.random.default_rng(time).standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("time", [80, 149])
@pytest.mark.parametrize(("form", "window"), FORMS)
def test_groups_equal_the_dense_form_in_value_and_gradient(few_scores, form, window, time):
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
        return dot_product_attention(*parts, window.dense(time), bias=bias)

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
def test_gradient_of_groups_in_float64_with_dropout(few_scores, key, form, window):
    """So the masks that are drawn again on the way back are those that acted forth."""
    with jax.enable_x64(True):
        *parts, _ = drawn(40, np.float64, batch=1, head_dim=2)

        def drop(weights, group, part=0):
            return dropout(weights, 0.5, jax.random.fold_in(key, group)[None])

        def attend(query, key, value):
            return jnp.sin(form(query, key, value, window, dropout=drop))

        check_grads(jax.jit(attend), parts, order=1)


@pytest.mark.parametrize("most", [1, 2 * 3])
def test_a_group_holds_at_least_one_query(monkeypatch, most):
    monkeypatch.setattr(windowed_attention, "MOST_SCORES", most)
    query, key, value, _ = drawn(3)
    for form, window in FORMS:
        dense = dot_product_attention(query, key, value, window.dense(3))
        np.testing.assert_allclose(form(query, key, value, window), dense, atol=1e-5)


@pytest.mark.parametrize("keys_seen", [16, None])
def test_groups_of_one_layer_never_share_a_mask(monkeypatch, key, keys_seen):
    """With values of one, an output is the share of a query's weights that is kept, doubled."""
    groups, rows = 4, 256 // 4
    monkeypatch.setattr(windowed_attention, "MOST_SLICES", 1)
    monkeypatch.setattr(windowed_attention, "MOST_SCORES", rows * (48 if keys_seen else 256))
    window = LocalWindow(keys_seen, causal=False)
    assert window.band_pays(256) == (keys_seen is not None)
    layer = MultiHeadAttention(width=1, heads=1, length=256, dropout=0.5)
    x = np.ones((1, 256, 1), np.float32)
    params = jax.tree.map(jnp.ones_like, layer.init(key, x)["params"])
    params["out"]["bias"] = jnp.zeros(1)
    kept = layer.apply({"params": params}, x, window, dropout_keys=key[None])[0, :, 0]
    shares = np.asarray(kept).reshape(groups, rows)
    assert np.abs(np.corrcoef(shares)[np.triu_indices(groups, 1)]).max() < 4 / rows**0.5
    assert abs(shares.mean() - 1) < 0.1


@pytest.mark.parametrize(
    ("form", "window"),
    [(banded_attention, LocalWindow(64)), (sliced_attention, LocalWindow())],
)
def test_memory_of_a_compiled_gradient_grows_with_the_length(monkeypatch, form, window):
    def memory(time, most):
        monkeypatch.setattr(windowed_attention, "MOST_SCORES", most)
        shape = jax.ShapeDtypeStruct((1, 2, time, 8), jnp.float32)
        attend = functools.partial(form, window=window)
        total = jax.grad(lambda *parts: attend(*parts).sum(), (0, 1, 2))
        compiled = jax.jit(total).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    shorter, longer = (memory(time, 2**15) for time in (1024, 2048))
    assert longer < 2.2 * shorter
    assert longer < 0.5 * memory(2048, 2**30)
