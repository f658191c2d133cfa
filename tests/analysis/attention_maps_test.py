"""Attention maps are those of the forward pass, in order, and the checks can find fault."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis.attention_maps import attention_maps, checks
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig

TINY = TransformerLMConfig(
    vocabulary_size=7, context=8, width=8, layers=2, heads=2, ffn_width=16, dropout=0.0
)


def build(key, **changes):
    model = TransformerLM(dataclasses.replace(TINY, **changes))
    tokens = jax.random.randint(key, (3, 8), 0, 7)
    # Large parameters, so that the heads are far from uniform.
    params = jax.tree.map(lambda leaf: leaf * 20, model.init(key, tokens)["params"])
    return model, params, tokens


def test_shape_is_layers_heads_query_key(key):
    maps = attention_maps(*build(key, layers=3))
    chex.assert_shape(maps, (3, 2, 8, 8))


def test_only_the_first_sequence_is_looked_at(key):
    model, params, tokens = build(key)
    maps = attention_maps(model, params, tokens)
    np.testing.assert_allclose(maps, attention_maps(model, params, tokens[:1]), rtol=1e-6)
    assert not np.allclose(maps, attention_maps(model, params, tokens[1:]))


def test_causal_model_passes_its_checks(key):
    figures = checks(attention_maps(*build(key)), causal=True)
    assert figures["row_sum_error"] < 1e-6
    assert figures["future_weight"] == 0


def test_windowed_model_passes_its_checks_at_its_window_and_no_smaller_one(key):
    maps = attention_maps(*build(key, attention_window=3))
    assert checks(maps, causal=True, window=3)["weight_beyond_window"] == 0
    assert checks(maps, causal=True, window=2)["weight_beyond_window"] > 0


def test_unmasked_model_fails_the_causal_check(key):
    figures = checks(attention_maps(*build(key, demo_unmasked=True)), causal=True)
    assert figures["row_sum_error"] < 1e-6
    assert figures["future_weight"] > 0


def test_first_layer_equals_softmax_by_hand(key):
    model, params, tokens = build(key, positions="learned", pre_norm=False, layers=1, heads=1)
    block = params["blocks_0"]["attention"]
    table = params["position_embedding"]
    (table,) = jax.tree.leaves(table)
    x = np.asarray(params["embedding"]["embedding"])[np.asarray(tokens[0])] + np.asarray(table)
    query, key_ = x @ np.asarray(block["query_kernel"]), x @ np.asarray(block["key_kernel"])
    scores = np.where(np.tri(8, dtype=bool), query @ key_.T / np.sqrt(8), -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention_maps(model, params, tokens)[0, 0], weights, atol=1e-5)


class Layer(nn.Module):
    """Sows the number that it was given as all of its attention weights."""

    number: int

    @nn.compact
    def __call__(self, tokens):
        self.sow("intermediates", "scores", jnp.full((1, 1, 2, 2), -1.0))
        self.sow("intermediates", "weights", jnp.full((1, 1, 2, 2), float(self.number)))
        return tokens


class Stack(nn.Module):
    """Twelve numbered layers."""

    def setup(self):
        self.blocks = [Layer(number) for number in range(12)]

    def __call__(self, tokens):
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def test_layers_come_in_the_order_of_their_numbers():
    maps = attention_maps(Stack(), {}, jnp.zeros((1, 2), jnp.int32))
    np.testing.assert_array_equal(maps[:, 0, 0, 0], np.arange(12))


def test_model_without_attention_is_named():
    model = nn.Dense(2)
    x = jnp.ones((1, 2))
    with pytest.raises(ValueError, match="Dense sows no attention weights"):
        attention_maps(model, model.init(jax.random.key(0), x)["params"], x)


def test_checks_find_each_fault_where_it_was_planted():
    sound = np.eye(4)[None, None]
    assert checks(sound, causal=True, window=1) == {
        "row_sum_error": 0,
        "future_weight": 0,
        "weight_beyond_window": 0,
    }
    future = sound.copy()
    future[0, 0, 1, 1:3] = [0.75, 0.25]
    assert checks(future, causal=True, window=1)["future_weight"] == 0.25
    assert "future_weight" not in checks(future, causal=False)
    far = sound.copy()
    far[0, 0, 3, [0, 3]] = [0.5, 0.5]
    assert checks(far, causal=True, window=4)["weight_beyond_window"] == 0
    assert checks(far, causal=True, window=3)["weight_beyond_window"] == 0.5
    assert checks(sound * 0.9, causal=True)["row_sum_error"] == pytest.approx(0.1)


def test_one_token_attends_to_itself(key):
    model, params, tokens = build(key)
    maps = attention_maps(model, params, tokens[:, :1])
    np.testing.assert_allclose(maps, np.ones((2, 2, 1, 1)), rtol=1e-6)
    assert checks(maps, causal=True, window=1)["future_weight"] == 0
