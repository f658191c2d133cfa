"""The stacks of the depth study differ in what their names say, and in nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.analysis import attention_depth as study
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.layers.transformer import EncoderBlock

SIZES = {"embed_dim": study.WIDTH, "num_heads": study.HEADS, "length": study.LENGTH}


@pytest.fixture(scope="module")
def params():
    return study.initial_params(0, 3)


@pytest.fixture(scope="module")
def block(params):
    return jax.tree.map(lambda leaf: leaf[1], params["blocks"])


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (2, study.LENGTH, study.WIDTH))


def test_block_with_both_is_the_encoder_block(block, x):
    got = study.Block().apply({"params": block}, x, True, True)
    expected = EncoderBlock(mlp_dim=study.FFN_WIDTH, **SIZES).apply({"params": block}, x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_block_with_neither_is_attention_and_then_feed_forward(block, x):
    attended = MultiHeadAttention(**SIZES).apply({"params": block["attention"]}, x)
    expected = FeedForward(study.FFN_WIDTH).apply({"params": block["ffn"]}, attended)
    np.testing.assert_allclose(
        study.Block().apply({"params": block}, x, False, False), expected, atol=1e-5
    )


@pytest.fixture(scope="module")
def loss():
    return jax.jit(study.reversal_loss)


def test_blocks_beyond_the_depth_take_no_part(params, loss):
    key = jax.random.key(0)
    broken = params | {
        "blocks": jax.tree.map(
            lambda leaf: np.concatenate([leaf[:2], leaf[2:] + 1]), params["blocks"]
        )
    }
    depths = [jnp.asarray(depth) for depth in (2, 3)]
    whole = [float(loss(params, key, depth, True, True)) for depth in depths]
    wrong = [float(loss(broken, key, depth, True, True)) for depth in depths]
    assert whole[0] == wrong[0]
    assert whole[1] != wrong[1]
    assert whole[0] != whole[1]


def test_a_guess_costs_the_logarithm_of_the_symbols(params, loss):
    guess = params | {"kernel": np.zeros_like(params["kernel"])}
    got = loss(guess, jax.random.key(0), jnp.asarray(1), True, True)
    assert float(got) == pytest.approx(np.log(study.SYMBOLS), rel=1e-5)


def test_each_variant_keeps_its_best_rate():
    losses = np.array([[[1.0, 3.0], [5.0, 5.0]], [[2.5, 2.5], [1.0, np.nan]]])
    # First variant: means 2 and 2.5. Second: 5, and one that diverged.
    np.testing.assert_array_equal(study._best_rate(losses), [[1.0, 3.0], [5.0, 5.0]])
