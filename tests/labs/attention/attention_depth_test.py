"""Depth study: variants differ only in residual connections and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.labs.attention import attention_depth as study
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.layers.transformer import EncoderBlock

SIZES = {"embed_dim": study.EMBED_DIM, "num_heads": study.NUM_HEADS, "length": study.LENGTH}


@pytest.fixture(scope="module")
def params():
    return study.initial_params(0, 3)


@pytest.fixture(scope="module")
def block(params):
    return jax.tree.map(lambda leaf: leaf[1], params["blocks"])


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (2, study.LENGTH, study.EMBED_DIM))


def test_block_with_residual_and_norm_equals_encoder_block(block, x):
    got = study.Block().apply({"params": block}, x, True, True)
    expected = EncoderBlock(mlp_dim=study.MLP_DIM, **SIZES).apply({"params": block}, x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_block_without_residual_and_norm_is_attention_then_feed_forward(block, x):
    attended = MultiHeadAttention(**SIZES).apply({"params": block["attention"]}, x)
    expected = FeedForward(study.MLP_DIM).apply({"params": block["ffn"]}, attended)
    np.testing.assert_allclose(
        study.Block().apply({"params": block}, x, False, False), expected, atol=1e-5
    )


@pytest.fixture(scope="module")
def loss():
    return jax.jit(study.reversal_loss)


def test_blocks_beyond_depth_do_not_affect_loss(params, loss):
    key = jax.random.key(0)
    perturbed = params | {
        "blocks": jax.tree.map(
            lambda leaf: np.concatenate([leaf[:2], leaf[2:] + 1]), params["blocks"]
        )
    }
    depths = [jnp.asarray(depth) for depth in (2, 3)]
    original = [float(loss(params, key, depth, True, True)) for depth in depths]
    changed = [float(loss(perturbed, key, depth, True, True)) for depth in depths]
    assert original[0] == changed[0]
    assert original[1] != changed[1]
    assert original[0] != original[1]


def test_uniform_prediction_has_loss_log_of_symbols(params, loss):
    uniform = params | {"kernel": np.zeros_like(params["kernel"])}
    got = loss(uniform, jax.random.key(0), jnp.asarray(1), True, True)
    assert float(got) == pytest.approx(np.log(study.SYMBOLS), rel=1e-5)


def test_best_rate_is_selected_for_each_variant():
    losses = np.array([[[1.0, 3.0], [5.0, 5.0]], [[2.5, 2.5], [1.0, np.nan]]])
    # First variant: means 2 and 2.5. Second: 5, and one that diverged.
    np.testing.assert_array_equal(study._best_rate(losses), [[1.0, 3.0], [5.0, 5.0]])
