"""Sampling and beam search with `jax_enable_x64` or strict dtype promotion.

Models, caches and states stay float32. The tokens are equal, since random numbers have explicit
dtypes and logits differ by rounding at most. Float64 parameters have float64 caches.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.decoding.adapters import RecurrentStepper, TransformerStepper
from jaxlabs.decoding.generate import empty_carry
from jaxlabs.models import char_rnn, seq2seq, transformer_lm
from jaxlabs.models.sequence_classifier import SequenceConfig

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = {
    "64 bits": functools.partial(jax.enable_x64, True),
    "strict promotion": functools.partial(jax.numpy_dtype_promotion, "strict"),
}
VOCAB, PROMPTS = 11, np.array([[3, 1, 4], [5, 9, 0]], np.int32)


def transformer(**settings):
    sizes = {"context_length": 6, "embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 8}
    config = transformer_lm.TransformerLMConfig(vocab_size=VOCAB, **sizes, **settings)
    return transformer_lm.TransformerLM(config)


def recurrent(cell):
    config = char_rnn.CharRNNConfig(vocab_size=VOCAB, cell=cell, embed_dim=4, hidden_size=5)
    return char_rnn.CharRNN(config)


def sampled(module, model, params, temperature=0.8):
    options = {"max_new_tokens": 9, "temperature": temperature, "top_k": 7, "top_p": 0.95}
    key = jax.random.key(1, impl="threefry2x32")
    return module.sample(model, params, PROMPTS, np.array([3, 2]), key, **options)


def initial_params(model, *inputs):
    variables = model.init(jax.random.key(0), *(jnp.asarray(x) for x in inputs))
    return variables["params"]


MODELS = {
    "transformer": (
        transformer_lm,
        transformer(positions="sinusoidal", short_conv_width=3, attention_window=2, qk_norm=True),
    ),
    "lstm": (char_rnn, recurrent("lstm")),
}


@pytest.mark.parametrize("name", MODELS)
def test_samples_equal_those_of_32_bit_mode(name):
    module, model = MODELS[name]
    params = initial_params(model, PROMPTS)
    expected = sampled(module, model, params)
    for setting in SETTINGS.values():
        with setting():
            same_params = initial_params(model, PROMPTS)
            found = sampled(module, model, params)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), params, same_params)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == jnp.int32
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_float64_parameters_have_float64_caches(name):
    module, model = MODELS[name]
    params = initial_params(model, PROMPTS)
    expected = sampled(module, model, params, temperature=0)
    with jax.enable_x64(True):
        params64 = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        found = sampled(module, model, params64, temperature=0)
        decoder = (
            TransformerStepper(model)
            if module is transformer_lm
            else RecurrentStepper(model, char_rnn.initial_states)
        )
        carry = empty_carry(decoder, params64, 2)
        carry, logits = decoder.step(params64, carry, jnp.asarray(PROMPTS[:, 0]))
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} - {jnp.dtype(jnp.int32)} == {
        jnp.dtype(jnp.float64)
    }
    assert logits.dtype == jnp.float64
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_translations_equal_those_of_32_bit_mode(backbone):
    sizes = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 8}
    config = SequenceConfig(backbone=backbone, **sizes)
    model = seq2seq.Seq2Seq(config, VOCAB, VOCAB, 4, 5)
    source = np.array([[5, 6, 2, 0], [7, 4, 9, 2]], np.int32)
    params = initial_params(model, source, source)
    expected = seq2seq.translate(model, params, source, beam_size=3, length_penalty=0.7)
    for setting in SETTINGS.values():
        with setting():
            found = seq2seq.translate(model, params, source, beam_size=3, length_penalty=0.7)
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        assert [leaf.dtype for leaf in found] == [leaf.dtype for leaf in expected]
