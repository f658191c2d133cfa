"""Attention maps equal those of the forward pass; checks detect violated masks."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis.attention_maps import (
    LIMITS,
    SENTENCES,
    AttentionMapsConfig,
    MapExample,
    attention_maps,
    checks,
    encode_texts,
    format_checks,
    rollout,
    write_maps,
)
from jaxlabs.config import UserError
from jaxlabs.layers import masks
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig
from jaxlabs.run_folder import RunFolder

TINY = TransformerLMConfig(
    vocab_size=7,
    context_length=8,
    embed_dim=8,
    num_layers=2,
    num_heads=2,
    mlp_dim=16,
    dropout=0.0,
)


def build(key, **changes):
    model = TransformerLM(dataclasses.replace(TINY, **changes))
    tokens = jax.random.randint(key, (3, 8), 0, 7)
    # Large parameters, so that attention is far from uniform.
    params = jax.tree.map(lambda leaf: leaf * 20, model.init(key, tokens)["params"])
    return model, params, tokens


def test_shape_is_layers_heads_query_key(key):
    maps = attention_maps(*build(key, num_layers=3))
    chex.assert_shape(maps, (3, 2, 8, 8))


def test_maps_are_of_first_sequence(key):
    model, params, tokens = build(key)
    maps = attention_maps(model, params, tokens)
    np.testing.assert_allclose(maps, attention_maps(model, params, tokens[:1]), rtol=1e-6)
    assert not np.allclose(maps, attention_maps(model, params, tokens[1:]))


def test_causal_model_passes_checks(key):
    metrics = checks(attention_maps(*build(key)), causal=True)
    assert metrics["row_sum_error"] < 1e-6
    assert metrics["future_weight"] == 0


def test_local_attention_passes_checks_at_its_window_and_fails_at_smaller_one(key):
    maps = attention_maps(*build(key, attention_window=3))
    assert checks(maps, causal=True, window=3)["weight_beyond_window"] == 0
    assert checks(maps, causal=True, window=2)["weight_beyond_window"] > 0


def test_unmasked_model_fails_the_causal_check(key):
    metrics = checks(attention_maps(*build(key, no_causal_mask=True)), causal=True)
    assert metrics["row_sum_error"] < 1e-6
    assert metrics["future_weight"] > 0


def test_first_layer_equals_explicit_softmax(key):
    model, params, tokens = build(
        key, positions="learned", pre_norm=False, num_layers=1, num_heads=1
    )
    block = params["blocks_0"]["attention"]
    table = params["position_embedding"]
    (table,) = jax.tree.leaves(table)
    x = np.asarray(params["embedding"]["embedding"])[np.asarray(tokens[0])] + np.asarray(table)
    query, key_ = x @ np.asarray(block["query_kernel"]), x @ np.asarray(block["key_kernel"])
    scores = np.where(np.tri(8, dtype=bool), query @ key_.T / np.sqrt(8), -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention_maps(model, params, tokens)[0, 0], weights, atol=1e-5)


class Padded(nn.Module):
    """One attention layer with an optional padding mask."""

    masked: bool = True

    @nn.compact
    def __call__(self, x, weights):
        mask = masks.padding(weights) if self.masked else None
        return MultiHeadAttention(embed_dim=8, num_heads=2, length=5)(x, mask)


def test_model_gets_all_inputs_and_padding_is_checked(key):
    x = jax.random.normal(key, (2, 5, 8))
    weights = jnp.array([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    params = Padded().init(key, x, weights)["params"]
    examples = {"weights": np.asarray(weights[0])}
    good = checks(attention_maps(Padded(), params, x, weights), causal=False, **examples)
    assert good["padding_weight"] == 0
    assert good["row_sum_error"] < 1e-6
    bad = checks(attention_maps(Padded(masked=False), params, x, weights), causal=False, **examples)
    assert bad["padding_weight"] > 0.01


class Layer(nn.Module):
    """Sows attention weights that all equal `number`."""

    number: int
    time: int = 2

    @nn.compact
    def __call__(self, tokens):
        self.sow("intermediates", "scores", jnp.full((1, 1, 2, 2), -1.0))
        shape = (1, 1, self.time, self.time)
        self.sow("intermediates", "weights", jnp.full(shape, float(self.number)))
        return tokens


class Uneven(nn.Module):
    """Two attention layers of different sequence lengths, as in an encoder-decoder."""

    @nn.compact
    def __call__(self, tokens):
        return Layer(1, time=3)(Layer(0, time=2)(tokens))


class Even(nn.Module):
    """Uniform attention over all tokens, future ones included."""

    @nn.compact
    def __call__(self, tokens):
        time = tokens.shape[1]
        self.sow("intermediates", "weights", jnp.full((1, 1, time, time), 1 / time))
        return tokens


class Stack(nn.Module):
    """Twelve numbered layers."""

    def setup(self):
        self.blocks = [Layer(number) for number in range(12)]

    def __call__(self, tokens):
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def test_layers_are_sorted_by_number():
    maps = attention_maps(Stack(), {}, jnp.zeros((1, 2), jnp.int32))
    np.testing.assert_array_equal(maps[:, 0, 0, 0], np.arange(12))


def test_model_without_attention_is_refused():
    model = nn.Dense(2)
    x = jnp.ones((1, 2))
    with pytest.raises(ValueError, match="Dense sows no attention weights"):
        attention_maps(model, model.init(jax.random.key(0), x)["params"], x)


def test_maps_of_several_shapes_are_refused():
    with pytest.raises(ValueError, match="Uneven sows attention of several shapes"):
        attention_maps(Uneven(), {}, jnp.zeros((1, 2), jnp.int32))


def test_checks_detect_each_violation():
    valid = np.eye(4)[None, None]
    assert checks(valid, causal=True, window=1) == {
        "row_sum_error": 0,
        "future_weight": 0,
        "weight_beyond_window": 0,
    }
    future = valid.copy()
    future[0, 0, 1, 1:3] = [0.75, 0.25]
    assert checks(future, causal=True, window=1)["future_weight"] == 0.25
    assert "future_weight" not in checks(future, causal=False)
    far = valid.copy()
    far[0, 0, 3, [0, 3]] = [0.5, 0.5]
    assert checks(far, causal=True, window=4)["weight_beyond_window"] == 0
    assert checks(far, causal=True, window=3)["weight_beyond_window"] == 0.5
    assert checks(valid * 0.9, causal=True)["row_sum_error"] == pytest.approx(0.1)


def test_bidirectional_window_is_band_around_diagonal():
    band = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) < 2
    maps = (band / band.sum(axis=-1, keepdims=True))[None, None]
    assert checks(maps, causal=False, window=2)["weight_beyond_window"] == 0
    assert checks(maps, causal=False, window=1)["weight_beyond_window"] == 0.5
    leak = maps.copy()
    leak[0, 0, 0, 2] = 0.125  # after the query, outside of a causal window
    assert checks(leak, causal=False, window=2)["weight_beyond_window"] == 0.125


def test_only_queries_without_visible_keys_may_sum_to_zero():
    weights = np.array([1.0, 1, 0, 0])
    # Window 2: the first padding query sees the second token, the last one has no visible keys.
    maps = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])[None, None]
    options = {"causal": True, "window": 2, "weights": weights}
    assert set(checks(maps, **options).values()) == {0.0}
    for row, wrong in ((3, [0.0, 0, 0, 1]), (2, [0.0, 0, 0, 0]), (1, [0.5, 0.4, 0, 0])):
        leak = maps.copy()
        leak[0, 0, row] = wrong
        assert checks(leak, **options)["row_sum_error"] >= 0.0999
    assert checks(maps, causal=True, window=2)["row_sum_error"] == 1  # without a padding mask


def test_format_checks_has_property_value_and_verdict():
    metrics = dict.fromkeys(LIMITS, 0.0) | {"future_weight": 1e-9, "row_sum_error": 2e-7}
    lines = {line.split(":")[0]: line.split()[-1] for line in format_checks(metrics).split("\n")}
    assert lines.pop("no weight above the diagonal") == "0"  # WRONG, at most 0
    assert set(lines.values()) == {"ok"}
    assert "future_weight             1e-09  WRONG" in format_checks(metrics)
    assert "WRONG" in format_checks({"row_sum_error": float("nan")})


def test_rollout_equals_explicit_product():
    # The mean of two heads attends one position back; half of the weight is the residual.
    first = np.array([[[1.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    second = np.array([[[1.0, 0, 0], [0, 1, 0], [1, 0, 0]]] * 2)
    maps = np.stack([first, second])
    got = rollout(maps)
    one = [[1, 0, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    np.testing.assert_allclose(got[0], one)
    # Row 2 of the second layer: half residual, half token 0.
    np.testing.assert_allclose(got[1], [one[0], one[1], [0.5, 0.125, 0.375]])
    np.testing.assert_allclose(rollout(maps, residual=0.0)[0], first.mean(axis=0))


def test_rollout_of_query_without_keys_is_identity():
    maps = np.array([[[[1.0, 0], [0, 0]]]] * 3)
    np.testing.assert_allclose(rollout(maps), np.tile(np.eye(2), (3, 1, 1)))


def test_write_maps_names_arrays_and_returns_worst_values(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    folder.create()
    split = str.split
    examples = encode_texts(
        {"short": "a b", "one": "a"}, split, lambda text: np.arange(len(split(text))), 8
    )
    config = AttentionMapsConfig(attention_rollout=True)
    metrics = write_maps(folder, config, Even(), {}, examples, causal=True)
    with np.load(folder.arrays("attention_maps")) as arrays:
        assert {name: array.shape for name, array in arrays.items()} == {
            "short/maps": (1, 1, 2, 2),
            "short/labels": (2,),
            "short/rollout": (1, 2, 2),
            "one/maps": (1, 1, 1, 1),
            "one/labels": (1,),
            "one/rollout": (1, 1, 1),
        }
        np.testing.assert_allclose(arrays["short/rollout"], rollout(arrays["short/maps"]))
    assert metrics["future_weight"] == 0.5  # of the short text; the other one has one token
    assert "WRONG" in capsys.readouterr().out
    for window, expected in ((1, {"weight_beyond_window": 0.5}), (2, {})):  # the longest text has 2
        metrics = write_maps(folder, config, Even(), {}, examples, causal=True, window=window)
        assert expected.items() == metrics.items() - {
            ("row_sum_error", 0.0),
            ("future_weight", 0.5),
        }


def test_text_longer_than_context_is_truncated():
    examples = encode_texts({"": "abcd"}, list, lambda text: np.arange(len(text)), 3)[""]
    assert examples == MapExample(list("abc"), examples.inputs)
    np.testing.assert_array_equal(examples.inputs[0], [[0, 1, 2]])


def test_padding_follows_text_if_it_fits():
    encode = lambda text: np.arange(2, 2 + len(text))  # noqa: E731
    examples = encode_texts({"short": "ab", "long": "abcde"}, list, encode, 5, padding=2)
    assert examples["short"].labels == ["a", "b", "<pad>", "<pad>"]
    np.testing.assert_array_equal(examples["short"].inputs[0], [[2, 3, 0, 0]])
    np.testing.assert_array_equal(examples["short"].weights, [1, 1, 0, 0])
    assert examples["long"].labels == list("abcde")
    np.testing.assert_array_equal(examples["long"].weights, 1)


def test_attention_text_is_split_and_empty_texts_are_refused():
    assert AttentionMapsConfig().texts() == {}
    assert AttentionMapsConfig(attention_text="To be").texts() == {"": "To be"}
    two = AttentionMapsConfig(attention_text="To be | or not")
    assert two.texts() == {"text 1": "To be", "text 2": "or not"}
    with pytest.raises(UserError, match=r"attention_text: 'To be\|' is not accepted"):
        AttentionMapsConfig(attention_text="To be|")


def test_default_sentences_fit_into_context_of_32():
    assert len(SENTENCES["short"].split()) < 16 < len(SENTENCES["long"].split()) <= 32


def test_single_token_attends_to_itself(key):
    model, params, tokens = build(key)
    maps = attention_maps(model, params, tokens[:, :1])
    np.testing.assert_allclose(maps, np.ones((2, 2, 1, 1)), rtol=1e-6)
    assert checks(maps, causal=True, window=1)["future_weight"] == 0
