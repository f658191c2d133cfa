"""A small Transformer and its inputs."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig

TINY = TransformerLMConfig(
    vocab_size=11,
    context_length=8,
    embed_dim=16,
    num_layers=2,
    num_heads=2,
    mlp_dim=24,
    dropout=0.0,
)


@pytest.fixture(scope="session")
def tiny():
    """`tiny(**options) -> TransformerLM`: vocabulary 11, context 8, 2 blocks, 2 heads."""

    def make(**options):
        return TransformerLM(dataclasses.replace(TINY, **options))

    return make


@pytest.fixture(scope="session")
def tokens_of():
    """`tokens_of(batch=3, time=8, vocabulary=11)`: fixed random tokens."""

    def make(batch=3, time=8, vocabulary=11):
        return np.random.default_rng(0).integers(0, vocabulary, (batch, time)).astype(np.int32)

    return make


@pytest.fixture(scope="session")
def batch_of(tokens_of):
    """`batch_of(batch=3, time=8)`: a training batch without padding."""

    def make(batch=3, time=8):
        tokens = tokens_of(batch, time + 1)
        return {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "weights": np.ones((batch, time), np.float32),
            "example_index": np.arange(batch, dtype=np.int32),
        }

    return make


@pytest.fixture(scope="session")
def parameters(tokens_of):
    """`parameters(model)`: perturbed initial parameters, biases and scales are neither 0 nor 1."""

    @functools.cache
    def perturbed(model):
        params = jax.jit(model.init)(jax.random.key(0), tokens_of())["params"]
        return jax.tree.map(
            lambda leaf: leaf + 0.1 * np.sin(np.arange(leaf.size)).reshape(leaf.shape), params
        )

    return perturbed


@pytest.fixture(scope="session")
def logits_of():
    """`logits_of(model, params, tokens, dropout_keys=None)`, compiled."""

    @functools.partial(jax.jit, static_argnums=0)
    def apply(model, params, tokens, dropout_keys=None):
        return model.apply({"params": params}, tokens, dropout_keys=dropout_keys)

    return apply
