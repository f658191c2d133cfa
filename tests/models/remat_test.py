"""`--remat` recomputes blocks in the backward pass: less memory, the same values and parameters."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.config import ArgumentError
from jaxlabs.diffusion.noise_schedules import DiffusionConfig
from jaxlabs.layers.remat import REMAT, rematerialize
from jaxlabs.layers.transformer import EncoderBlock
from jaxlabs.models import ddpm, seq2seq, sequence_classifier, text_encoder, transformer_lm

BATCH, TIME, VOCAB = 8, 32, 11
KEY = jax.random.key(0)
SIZES = {"embed_dim": 32, "num_heads": 2, "mlp_dim": 128, "num_layers": 4, "dropout": 0.1}


def batch_of(*shape, **arrays):
    index = np.arange(BATCH, dtype=np.int32)
    return {"weights": np.ones((BATCH, *shape), np.float32), "example_index": index, **arrays}


def tokens():
    return np.random.default_rng(0).integers(3, VOCAB, (BATCH, TIME)).astype(np.int32)


def language_model(remat):
    config = transformer_lm.TransformerLMConfig(
        vocab_size=VOCAB, context_length=TIME, positions="rotary", remat=remat, **SIZES
    )
    batch = batch_of(TIME, inputs=tokens(), targets=tokens())
    return transformer_lm, transformer_lm.TransformerLM(config), batch, (tokens(),)


def unet(remat):
    config = ddpm.UNetConfig(base_channels=8, num_groups=2, time_embed_dim=8, remat=remat)
    model, images = ddpm.UNet(config, DiffusionConfig(), (8, 8, 1)), jnp.zeros((1, 8, 8, 1))
    pixels = np.zeros((BATCH, 8, 8, 1), np.uint8)
    batch = batch_of(images=pixels, labels=np.zeros(BATCH, np.int32))
    return ddpm, model, batch, (images, jnp.zeros(1, jnp.int32))


def sentences(remat):
    config = text_encoder.TextClassifierConfig(
        vocab_size=VOCAB, context_length=TIME, remat=remat, **SIZES
    )
    batch = batch_of(inputs=tokens(), labels=np.zeros(BATCH, np.int32))
    return text_encoder, text_encoder.TextClassifier(config), batch, (tokens(),)


def translator(remat):
    config = sequence_classifier.SequenceConfig(backbone="transformer", remat=remat, **SIZES)
    batch = batch_of(TIME, inputs=tokens(), targets=tokens())
    return seq2seq, seq2seq.Seq2Seq(config, VOCAB, VOCAB, TIME, TIME), batch, (tokens(),) * 2


MODELS = {"gpt": language_model, "ddpm": unet, "text": sentences, "seq2seq": translator}


@functools.cache
def built(name, remat):
    """Returns the loss as a function of the parameters, and abstract variables."""
    module, model, batch, inputs = MODELS[name](remat)

    def loss(params):
        return module.loss(model, {"params": params}, batch, KEY, train=True).loss_sum

    return loss, jax.eval_shape(model.init, KEY, *inputs)["params"]


def saved_bytes(loss, params):
    """Returns the size of all arrays that the forward pass leaves for the backward pass."""
    backward = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))


@pytest.mark.parametrize("name", MODELS)
def test_each_mode_saves_less_for_the_backward_pass(name):
    everything, linear, inputs = (saved_bytes(*built(name, remat)) for remat in REMAT)
    assert everything > 1.3 * linear
    assert linear > 1.3 * inputs


@pytest.mark.parametrize("name", MODELS)
def test_parameters_have_the_same_paths(name):
    shapes = [built(name, remat)[1] for remat in REMAT]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("name", ["gpt", "ddpm"])
def test_loss_and_gradients_are_those_without_it(name, quickly_compiled):
    _, shapes = built(name, "none")
    leaves, structure = jax.tree.flatten(shapes)
    random = np.random.default_rng(0)
    values = [random.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves]
    params = jax.tree.unflatten(structure, values)
    expected, *others = (
        jax.jit(jax.value_and_grad(built(name, remat)[0]))(params) for remat in REMAT
    )
    for found in others:
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="XLA for CPUs recomputes too early")
def test_compiled_step_needs_less_memory():
    temporaries = []
    for remat in REMAT:
        loss, params = built("gpt", remat)
        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    everything, linear, inputs = temporaries
    assert everything > 1.1 * linear
    assert linear > 1.1 * inputs


def test_unknown_modes_and_models_without_blocks_are_refused():
    with pytest.raises(ValueError, match="remat: 'all' is not one of none, blocks, full"):
        rematerialize(EncoderBlock, "all")
    with pytest.raises(ArgumentError, match="remat: full is not accepted with `backbone` lstm"):
        sequence_classifier.SequenceConfig(backbone="lstm", remat="full")
