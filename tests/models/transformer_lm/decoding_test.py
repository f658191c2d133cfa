"""Cached decoding equals the forward pass on whole sequences."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import TransformerStepper, sample

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DECODED = [
    {},
    {"positions": "learned"},
    {"positions": "rotary"},
    {"positions": "alibi"},
    {"attention_window": 3, "positions": "rotary", "qk_norm": True, "norm": "rmsnorm"},
    {"pre_norm": False, "tie_embeddings": True, "qkv_bias": True},
    {"short_conv_width": 3, "positions": "rotary"},
    {"short_conv_width": 4, "pre_norm": False},
]


@functools.partial(jax.jit, static_argnums=0)
def decoded(decoder, params, carry, tokens):
    """Logits of decoding `tokens [batch, time]` one by one."""

    def predict(carry, column):
        return decoder.step(params, carry, column)

    carry, logits = jax.lax.scan(predict, carry, tokens.T)
    return carry, jnp.swapaxes(logits, 0, 1)


@pytest.mark.parametrize("options", DECODED)
def test_cached_decode_equals_full_forward(options, tiny, parameters, logits_of, tokens_of):
    model, tokens = tiny(**options), tokens_of()
    params, decoder = parameters(model), TransformerStepper(model)
    assert decoder.context_length == 8
    full = logits_of(model, params, tokens)
    _, logits = decoded(decoder, params, decoder.init_carry(3), tokens)
    np.testing.assert_allclose(logits, full, atol=1e-5)


@pytest.mark.parametrize("options", DECODED)
def test_prefill_equals_the_uncached_forward_on_those_tokens(
    options, tiny, parameters, logits_of, tokens_of
):
    model, tokens = tiny(**options), tokens_of()
    params, decoder = parameters(model), TransformerStepper(model)
    recent = tokens[:, 3:8]
    full = logits_of(model, params, recent)
    carry = jax.jit(decoder.prefill)(params, recent[:, :4])
    chex.assert_trees_all_equal_shapes_and_dtypes(carry, decoder.init_carry(3))
    (_, position), logits = decoded(decoder, params, carry, recent[:, 4:])
    np.testing.assert_allclose(logits, full[:, 4:], atol=1e-5)
    assert position == 5


def test_a_context_of_one_decodes(tiny, logits_of, tokens_of):
    model, tokens = tiny(context_length=1), tokens_of(time=1)
    params = model.init(jax.random.key(0), tokens)["params"]
    decoder = TransformerStepper(model)
    _, logits = decoded(decoder, params, decoder.init_carry(3), tokens)
    np.testing.assert_allclose(logits, logits_of(model, params, tokens), atol=1e-6)


def test_steppers_of_equal_models_are_equal(tiny):
    first, second = (TransformerStepper(tiny()) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != TransformerStepper(tiny(num_heads=4))


def test_greedy_samples_are_the_argmax_continuations(key, tiny, parameters, logits_of, tokens_of):
    model = tiny(positions="rotary")
    params = parameters(model)
    prompts = tokens_of(time=3)
    lengths = np.array([3, 1, 2])
    tokens, ends = sample(model, params, prompts, lengths, key, max_new_tokens=4, temperature=0.0)
    np.testing.assert_array_equal(ends, lengths + 4)
    for row, length in enumerate(lengths):
        expected = list(prompts[row, :length])
        for _ in range(4):
            padded = np.zeros((3, 8), np.int32)
            padded[:, : len(expected)] = expected
            expected.append(int(logits_of(model, params, padded)[0, len(expected) - 1].argmax()))
        np.testing.assert_array_equal(tokens[row, : length + 4], expected)
