"""Every sampler under `jax.vmap` and under a `jax.pmap` over four devices.

All arrays are mapped, lengths and labels included, so all of them are traced.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.diffusion import samplers
from jaxlabs.diffusion.noise_schedules import DiffusionConfig
from jaxlabs.models import autoencoder, char_rnn, ddpm, seq2seq, transformer_lm
from jaxlabs.models.sequence_classifier import SequenceConfig

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DEVICES, BATCH, VOCAB, CONTEXT = 4, 2, 11, 6
KEYS = jax.random.split(jax.random.key(3), DEVICES)
PROMPTS = np.random.default_rng(0).integers(0, VOCAB, (DEVICES, BATCH, 3)).astype(np.int32)
LENGTHS = np.array([[1, 3], [2, 1], [3, 3], [1, 2]], np.int32)
WORDS = np.random.default_rng(1).integers(3, VOCAB, (DEVICES, BATCH, 2)).astype(np.int32)
SOURCES = np.pad(WORDS, ((0, 0), (0, 0), (0, 2)), constant_values=seq2seq.END)
LABELS = np.array([[0, 1], [2, 0], [1, 1], [2, 2]], np.int32)
ROWS = np.arange(DEVICES * BATCH, dtype=np.int32).reshape(DEVICES, BATCH)


def initialize(model, *inputs):
    return jax.jit(model.init)(jax.random.key(0), *inputs)["params"]


def transformer_sampler(past_context="half"):
    """Its samples are longer than the context, so that the caches are refilled."""
    config = transformer_lm.TransformerLMConfig(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        embed_dim=8,
        num_layers=1,
        num_heads=2,
        mlp_dim=8,
    )
    model = transformer_lm.TransformerLM(config)
    params = initialize(model, PROMPTS[0])
    options = {"max_new_tokens": 7, "top_k": 5, "top_p": 0.9, "past_context": past_context}
    return functools.partial(transformer_lm.sample, model, params, **options)


def recurrent_sampler():
    config = char_rnn.CharRNNConfig(cell="lstm", vocab_size=VOCAB, embed_dim=8, hidden_size=8)
    model = char_rnn.CharRNN(config)
    params = initialize(model, PROMPTS[0])
    return functools.partial(char_rnn.sample, model, params, max_new_tokens=7, stop_token=2)


def translation_sampler(backbone, beam_size):
    sizes = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 8}
    model = seq2seq.Seq2Seq(SequenceConfig(backbone=backbone, **sizes), VOCAB, VOCAB, 4, 5)
    params = initialize(model, SOURCES[0], SOURCES[0])
    return functools.partial(seq2seq.translate, model, params, beam_size=beam_size)


def diffusion_sampler():
    config = ddpm.UNetConfig(
        base_channels=8, num_groups=2, time_embed_dim=8, class_conditional=True
    )
    diffusion, shape = DiffusionConfig(num_timesteps=20), (4, 4, 1)
    model = ddpm.UNet(config, diffusion, shape, num_classes=3)
    params = initialize(model, jnp.zeros((1, *shape)), jnp.zeros(1, jnp.int32))
    denoise = ddpm.GuidedDenoiser(model, guided=True)

    def sample(key, rows, labels):
        return samplers.sample(
            denoise,
            (params, 2.0),
            key,
            rows,
            shape=shape,
            diffusion=diffusion,
            sampler=samplers.SamplerConfig(sampler_steps=4),
            snapshots=(10,),
            condition=labels,
        )

    return sample


def prior_sampler():
    config = autoencoder.AutoencoderConfig(latent_dim=3, hidden_size=8)
    model = autoencoder.Autoencoder(config, (4, 4, 1))
    params = initialize(model, jnp.zeros((1, 16)))
    return lambda key: autoencoder.sample_prior(model, params, key, BATCH)


TEXT, IMAGES = (PROMPTS, LENGTHS, KEYS), (KEYS, ROWS, LABELS)
CASES = {
    "text by a transformer": (transformer_sampler, TEXT),
    "text by a transformer, sliding": (lambda: transformer_sampler("slide"), TEXT),
    "text by an lstm": (recurrent_sampler, TEXT),
    "greedy translation by a gru": (lambda: translation_sampler("gru", 1), (SOURCES,)),
    "beam search by a transformer": (lambda: translation_sampler("transformer", 3), (SOURCES,)),
    "images by ancestral sampling": (diffusion_sampler, IMAGES),
    "images from a prior": (prior_sampler, (KEYS,)),
}


@pytest.mark.parametrize("name", CASES)
def test_mapped_samplers_equal_the_plain_call(name):
    build, arguments = CASES[name]
    sampler = build()
    plain = [sampler(*(array[i] for array in arguments)) for i in range(DEVICES)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *plain)
    assert any((leaf[0] != leaf[1]).any() for leaf in jax.tree.leaves(expected))
    for transform in (jax.vmap, functools.partial(jax.pmap, devices=jax.devices()[:DEVICES])):
        found = transform(sampler)(*arguments)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)


@pytest.mark.parametrize("name", CASES)
def test_samplers_are_lowered_for_gpus_and_tpus(name, lower_elsewhere):
    build, arguments = CASES[name]
    lower_elsewhere(jax.jit(build()), *(array[0] for array in arguments))


def test_traced_lengths_outside_a_row_are_clipped():
    sampler = recurrent_sampler()
    found = jax.jit(sampler)(PROMPTS[0], np.array([0, 9], np.int32), KEYS[0])
    expected = sampler(PROMPTS[0], np.array([1, 3], np.int32), KEYS[0])
    jax.tree.map(np.testing.assert_array_equal, found, expected)
