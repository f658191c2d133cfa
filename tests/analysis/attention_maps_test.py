"""Attention maps are those of the forward pass, in order, and the checks can find fault."""

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
    Shown,
    attention_maps,
    check_lines,
    checks,
    rollout,
    shown_texts,
    write_maps,
)
from jaxlabs.config import UserError
from jaxlabs.layers import masks
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig
from jaxlabs.run_folder import RunFolder

TINY = TransformerLMConfig(
    vocabulary_size=7,
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
    # Large parameters, so that the heads are far from uniform.
    params = jax.tree.map(lambda leaf: leaf * 20, model.init(key, tokens)["params"])
    return model, params, tokens


def test_shape_is_layers_heads_query_key(key):
    maps = attention_maps(*build(key, num_layers=3))
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
    figures = checks(attention_maps(*build(key, no_causal_mask=True)), causal=True)
    assert figures["row_sum_error"] < 1e-6
    assert figures["future_weight"] > 0


def test_first_layer_equals_softmax_by_hand(key):
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
    """One layer that is told which tokens are there, and may be made to ignore it."""

    masked: bool = True

    @nn.compact
    def __call__(self, x, weights):
        mask = masks.padding(weights) if self.masked else None
        return MultiHeadAttention(embed_dim=8, num_heads=2, length=5)(x, mask)


def test_model_gets_its_further_arguments_and_padding_is_checked(key):
    x = jax.random.normal(key, (2, 5, 8))
    weights = jnp.array([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    params = Padded().init(key, x, weights)["params"]
    shown = {"weights": np.asarray(weights[0])}
    good = checks(attention_maps(Padded(), params, x, weights), causal=False, **shown)
    assert good["padding_weight"] == 0
    assert good["row_sum_error"] < 1e-6
    bad = checks(attention_maps(Padded(masked=False), params, x, weights), causal=False, **shown)
    assert bad["padding_weight"] > 0.01


class Layer(nn.Module):
    """Sows the number that it was given as all of its attention weights."""

    number: int
    time: int = 2

    @nn.compact
    def __call__(self, tokens):
        self.sow("intermediates", "scores", jnp.full((1, 1, 2, 2), -1.0))
        shape = (1, 1, self.time, self.time)
        self.sow("intermediates", "weights", jnp.full(shape, float(self.number)))
        return tokens


class Uneven(nn.Module):
    """Two layers whose sequences differ in length, as in an encoder beside a decoder."""

    @nn.compact
    def __call__(self, tokens):
        return Layer(1, time=3)(Layer(0, time=2)(tokens))


class Even(nn.Module):
    """Looks at all tokens alike, the later ones included."""

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


def test_layers_come_in_the_order_of_their_numbers():
    maps = attention_maps(Stack(), {}, jnp.zeros((1, 2), jnp.int32))
    np.testing.assert_array_equal(maps[:, 0, 0, 0], np.arange(12))


def test_model_without_attention_is_named():
    model = nn.Dense(2)
    x = jnp.ones((1, 2))
    with pytest.raises(ValueError, match="Dense sows no attention weights"):
        attention_maps(model, model.init(jax.random.key(0), x)["params"], x)


def test_maps_of_several_shapes_are_no_one_picture():
    with pytest.raises(ValueError, match="Uneven sows attention of several shapes"):
        attention_maps(Uneven(), {}, jnp.zeros((1, 2), jnp.int32))


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


def test_windows_of_both_sides_are_a_band_around_the_diagonal():
    band = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) < 2
    maps = (band / band.sum(axis=-1, keepdims=True))[None, None]
    assert checks(maps, causal=False, window=2)["weight_beyond_window"] == 0
    assert checks(maps, causal=False, window=1)["weight_beyond_window"] == 0.5
    leak = maps.copy()
    leak[0, 0, 0, 2] = 0.125  # after the query, where a causal window has no band
    assert checks(leak, causal=False, window=2)["weight_beyond_window"] == 0.125


def test_padded_queries_that_see_padding_only_must_sum_to_zero_and_no_others():
    weights = np.array([1.0, 1, 0, 0])
    # Window 2: the first padded query still sees the second token, the last one sees nothing.
    maps = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])[None, None]
    options = {"causal": True, "window": 2, "weights": weights}
    assert set(checks(maps, **options).values()) == {0.0}
    for row, wrong in ((3, [0.0, 0, 0, 1]), (2, [0.0, 0, 0, 0]), (1, [0.5, 0.4, 0, 0])):
        leak = maps.copy()
        leak[0, 0, row] = wrong
        assert checks(leak, **options)["row_sum_error"] >= 0.0999
    assert checks(maps, causal=True, window=2)["row_sum_error"] == 1  # no word of padding


def test_check_lines_say_what_was_checked_how_much_and_whether_it_holds():
    figures = dict.fromkeys(LIMITS, 0.0) | {"future_weight": 1e-9, "row_sum_error": 2e-7}
    lines = {line.split(":")[0]: line.split()[-1] for line in check_lines(figures).split("\n")}
    assert lines.pop("nothing above the diagonal") == "0"  # WRONG, at most 0
    assert set(lines.values()) == {"ok"}
    assert "future_weight             1e-09  WRONG" in check_lines(figures)
    assert "WRONG" in check_lines({"row_sum_error": float("nan")})


def test_rollout_equals_the_product_by_hand():
    # Two heads whose mean looks one back; with the residual path half stays.
    first = np.array([[[1.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    second = np.array([[[1.0, 0, 0], [0, 1, 0], [1, 0, 0]]] * 2)
    maps = np.stack([first, second])
    got = rollout(maps)
    one = [[1, 0, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    np.testing.assert_allclose(got[0], one)
    # Row 2 of the second layer is half itself and half token 0.
    np.testing.assert_allclose(got[1], [one[0], one[1], [0.5, 0.125, 0.375]])
    np.testing.assert_allclose(rollout(maps, residual=0.0)[0], first.mean(axis=0))


def test_rollout_of_a_query_without_keys_stays_with_itself():
    maps = np.array([[[[1.0, 0], [0, 0]]]] * 3)
    np.testing.assert_allclose(rollout(maps), np.tile(np.eye(2), (3, 1, 1)))


def test_written_maps_are_named_and_the_worst_check_counts(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    folder.create()
    split = str.split
    shown = shown_texts(
        {"short": "a b", "one": "a"}, split, lambda text: np.arange(len(split(text))), 8
    )
    config = AttentionMapsConfig(attention_rollout=True)
    figures = write_maps(folder, config, Even(), {}, shown, causal=True)
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
    assert figures["future_weight"] == 0.5  # of the short text; the other one has no future
    assert "WRONG" in capsys.readouterr().out
    for window, found in ((1, {"weight_beyond_window": 0.5}), (2, {})):  # the longest text has 2
        figures = write_maps(folder, config, Even(), {}, shown, causal=True, window=window)
        assert found.items() == figures.items() - {("row_sum_error", 0.0), ("future_weight", 0.5)}


def test_text_longer_than_the_context_is_cut():
    shown = shown_texts({"": "abcd"}, list, lambda text: np.arange(len(text)), 3)[""]
    assert shown == Shown(list("abc"), shown.inputs)
    np.testing.assert_array_equal(shown.inputs[0], [[0, 1, 2]])


def test_padding_follows_a_text_where_there_is_room():
    encode = lambda text: np.arange(2, 2 + len(text))  # noqa: E731
    shown = shown_texts({"short": "ab", "long": "abcde"}, list, encode, 5, padding=2)
    assert shown["short"].labels == ["a", "b", "<pad>", "<pad>"]
    np.testing.assert_array_equal(shown["short"].inputs[0], [[2, 3, 0, 0]])
    np.testing.assert_array_equal(shown["short"].weights, [1, 1, 0, 0])
    assert shown["long"].labels == list("abcde")
    np.testing.assert_array_equal(shown["long"].weights, 1)


def test_flag_names_texts_and_refuses_empty_ones():
    assert AttentionMapsConfig().texts() == {}
    assert AttentionMapsConfig(attention_text="To be").texts() == {"": "To be"}
    two = AttentionMapsConfig(attention_text="To be | or not")
    assert two.texts() == {"text 1": "To be", "text 2": "or not"}
    with pytest.raises(UserError, match=r"--attention_text: 'To be\|' is not accepted"):
        AttentionMapsConfig(attention_text="To be|")


def test_own_sentences_fit_into_a_block_of_32():
    assert len(SENTENCES["short"].split()) < 16 < len(SENTENCES["long"].split()) <= 32


def test_one_token_attends_to_itself(key):
    model, params, tokens = build(key)
    maps = attention_maps(model, params, tokens[:, :1])
    np.testing.assert_allclose(maps, np.ones((2, 2, 1, 1)), rtol=1e-6)
    assert checks(maps, causal=True, window=1)["future_weight"] == 0
