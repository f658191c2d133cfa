"""Layers with `dtype=bfloat16`, and the kernels for CPUs on bfloat16 inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers import positions
from jaxlabs.layers.convolution import (
    Conv3x3,
    ResidualBlock,
    conv3x3,
    max_pool_2x2,
    upsample_2x_bilinear,
)
from jaxlabs.layers.cpu.masked_attention import masked_attention
from jaxlabs.layers.decoder_block import DecoderBlock
from jaxlabs.layers.dtypes import at_least_float32, cast, output_precision
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.matmul import einsum, matmul
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.short_convolution import ShortConvolution
from jaxlabs.layers.transformer import EncoderBlock

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BFLOAT16 = jnp.bfloat16
KEY = jax.random.key(0)
BLOCK = {"embed_dim": 8, "num_heads": 2, "mlp_dim": 16, "length": 4, "dtype": BFLOAT16}
SEQUENCE, IMAGE = (2, 4, 8), (2, 4, 4, 8)


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return jnp.asarray(values, BFLOAT16)


MODULES = {
    "conv": (Conv3x3(4, dtype=BFLOAT16), IMAGE),
    "residual": (ResidualBlock(4, 2, dtype=BFLOAT16), IMAGE, (2, 6)),
    "feed_forward": (FeedForward(16, dtype=BFLOAT16), SEQUENCE),
    "layernorm": (build_norm("layernorm", dtype=BFLOAT16), SEQUENCE),
    "rmsnorm": (build_norm("rmsnorm", dtype=BFLOAT16), SEQUENCE),
    "short_convolution": (ShortConvolution(3, BFLOAT16), SEQUENCE),
    "encoder": (EncoderBlock(**BLOCK, positions="rotary", qk_norm=True), SEQUENCE),
    "encoder_biases": (EncoderBlock(**BLOCK, qkv_bias=True, pre_norm=False), SEQUENCE),
    "decoder": (DecoderBlock(**BLOCK), SEQUENCE, SEQUENCE),
    "lstm": (Recurrent(cell="lstm", features=8, hidden_size=4, dtype=BFLOAT16), SEQUENCE),
}


@pytest.mark.parametrize("name", MODULES)
def test_layers_return_their_dtype_from_float32_parameters(name):
    module, *shapes = MODULES[name]
    # Other inputs are cast; a residual stream has the dtype of its input.
    dtype = BFLOAT16 if name in ("encoder", "decoder") else jnp.float32
    inputs = [jnp.zeros(shape, dtype) for shape in shapes]
    output, variables = jax.eval_shape(lambda *x: module.init_with_output(KEY, *x), *inputs)
    assert jax.tree.leaves(output)[0].dtype == BFLOAT16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype(jnp.float32)}


def attend(time, window):
    def attention(query, key, value):
        return masked_attention(query, key, value, AttentionMask(window=window))

    return attention, *(normal(1, 2, time, 4, seed=seed) for seed in range(3))


OPERATIONS = {
    "matmul": (matmul, normal(3, 5, 16), normal(16, 8)),
    "matmul_highest": (lambda x, y: matmul(x, y, "highest"), normal(3, 5, 16), normal(16, 8)),
    "values": (
        lambda x, y: einsum("bhqk,bhkd->bhqd", x, y),
        normal(1, 2, 3, 4),
        normal(1, 2, 4, 8),
    ),
    "conv3x3": (conv3x3, normal(2, 8, 5, 32), normal(3, 3, 32, 32)),
    "max_pool": (max_pool_2x2, normal(2, 4, 6, 3)),
    "upsample": (upsample_2x_bilinear, normal(2, 4, 3, 5)),
    "query_chunks": attend(128, None),
    "blocks": attend(130, 4),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_bfloat16_are_those_of_float32_but_for_the_rounding(name):
    """Values and gradients, on a CPU those of its kernels."""
    function, *inputs = OPERATIONS[name]

    @jax.jit
    def outputs(*inputs):
        output, backward = jax.vjp(function, *inputs)
        target = normal(*output.shape, seed=9).astype(output.dtype)
        return output, *backward(target)

    narrow, wide = outputs(*inputs), outputs(*(x.astype(jnp.float32) for x in inputs))
    assert {x.dtype for x in narrow} == {jnp.dtype(BFLOAT16)}
    for ours, exact in zip(narrow, wide, strict=True):
        error = np.linalg.norm(ours.astype(np.float32) - exact) / np.linalg.norm(exact)
        assert error < 2**-7


def test_scores_are_the_unrounded_sums_of_products():
    query, key = normal(1, 2, 70, 64), normal(1, 2, 3, 64, seed=1)
    scores = einsum("bhqd,bhkd->bhqk", query, key, dtype=jnp.float32)
    exact = np.einsum("bhqd,bhkd->bhqk", *(np.asarray(x, np.float64) for x in (query, key)))
    np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-5)


def test_rotation_is_rounded_once():
    x, tables = normal(1, 1, 64, 8), positions.rope_tables(64, 8)
    exact = positions.apply_rope(x.astype(jnp.float32), *tables)
    np.testing.assert_array_equal(positions.apply_rope(x, *tables), exact.astype(BFLOAT16))


def test_recurrent_states_add_up_small_changes():
    """A bfloat16 state would stay at 256, where the next number is 258."""
    layer = Recurrent(cell="lstm", features=1, hidden_size=1, dtype=BFLOAT16)
    variables = layer.init(KEY, jnp.zeros((1, 1, 1)))
    # Gates open, the candidate is tanh(0.5) = 0.46.
    bias = jnp.array([50.0, 50.0, 0.5, 50.0])
    (params,) = variables["params"].values()
    params = {name: jnp.zeros_like(leaf) for name, leaf in params.items()} | {"bias": bias}
    variables = {"params": dict.fromkeys(variables["params"], params)}
    states = ((jnp.zeros((1, 1)), jnp.full((1, 1), 256.0)),)
    _, ((_, cell),) = layer.apply(variables, jnp.zeros((1, 100, 1)), states)
    assert float(cell[0, 0]) == pytest.approx(256 + 100 * np.tanh(0.5), rel=1e-4)


def test_casts():
    x = jnp.ones(2)
    assert cast(x, None) is x
    assert cast(x, BFLOAT16).dtype == BFLOAT16
    assert at_least_float32(cast(x, BFLOAT16)).dtype == jnp.float32
    with jax.enable_x64():
        assert at_least_float32(jnp.ones(2, jnp.float64)).dtype == jnp.float64
    assert output_precision("highest", None) == "highest"
    assert output_precision("highest", BFLOAT16) == "bfloat16"
