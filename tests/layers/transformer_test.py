import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers import masks
from jaxlabs.layers.decoder_block import DecoderBlock
from jaxlabs.layers.multi_head_attention import empty_cache
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.transformer import EncoderBlock


def tokens_of(batch=2, time=6, embed_dim=8, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((batch, time, embed_dim)).astype(dtype)


def block(**options):
    return EncoderBlock(**{"embed_dim": 8, "num_heads": 2, "mlp_dim": 16, "length": 6} | options)


def perturbed(params):
    """Parameters whose biases and scales are neither 0 nor 1."""
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * np.sin(np.arange(leaf.size)).reshape(leaf.shape), params
    )


@pytest.mark.parametrize("short_conv_width", [1, 3])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_block_equals_its_formula(key, pre_norm, short_conv_width):
    x, layer = tokens_of(), block(pre_norm=pre_norm, short_conv_width=short_conv_width)
    mask = masks.causal(6)
    params = perturbed(layer.init(key, x)["params"])

    def norm(name, x):
        return build_norm("layernorm").apply({"params": params[name]}, x)

    def convolve(name, x):
        if short_conv_width == 1:
            return x
        kernel = params[name]["kernel"]
        return x + sum(
            kernel[lag][None] * np.pad(x, ((0, 0), (lag, 0), (0, 0)))[:, :6] for lag in range(3)
        )

    def attend(x):
        bound = layer.bind({"params": params})
        return bound.attention(x, mask)

    def feed_forward(x):
        return layer.bind({"params": params}).ffn(x)

    if pre_norm:
        x_ = x + attend(convolve("attention_convolution", norm("attention_norm", x)))
        expected = x_ + feed_forward(convolve("ffn_convolution", norm("ffn_norm", x_)))
    else:
        x_ = norm("attention_norm", x + attend(convolve("attention_convolution", x)))
        expected = norm("ffn_norm", x_ + feed_forward(convolve("ffn_convolution", x_)))
    got = layer.apply({"params": params}, x, mask)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_block_and_its_gradients_equal_pytorch(key, pre_norm, activation):
    torch = pytest.importorskip("torch")
    x, layer = tokens_of(), block(pre_norm=pre_norm, activation=activation, qkv_bias=True)
    params = perturbed(layer.init(key, x)["params"])
    target = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def total(params, x):
        return jnp.sum(jnp.sin(layer.apply({"params": params}, x, masks.causal(6))) * target)

    value, (gradients, x_gradient) = jax.value_and_grad(total, (0, 1))(params, x)

    torch_block = torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation=activation, batch_first=True, norm_first=pre_norm
    )
    values = torch_values(params)
    torch_block.load_state_dict(
        {name: torch.tensor(np.array(value)) for name, value in values.items()}
    )
    leaf = torch.tensor(x, requires_grad=True)
    hidden = ~torch.ones(6, 6, dtype=torch.bool).tril()
    theirs = (torch_block(leaf, src_mask=hidden).sin() * torch.tensor(target)).sum()
    theirs.backward()

    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(x_gradient, leaf.grad.numpy(), atol=1e-5)
    expected = dict(torch_block.named_parameters())
    for name, ours in torch_values(gradients).items():
        np.testing.assert_allclose(ours, expected[name].grad.numpy(), atol=1e-5, err_msg=name)


def torch_values(params):
    attention, ffn = params["attention"], params["ffn"]
    names = ("query", "key", "value")
    return {
        "self_attn.in_proj_weight": np.concatenate([attention[f"{n}_kernel"] for n in names], 1).T,
        "self_attn.in_proj_bias": np.concatenate([attention[f"{n}_bias"] for n in names]),
        "self_attn.out_proj.weight": attention["out"]["kernel"].T,
        "self_attn.out_proj.bias": attention["out"]["bias"],
        "linear1.weight": ffn["up_proj"]["kernel"].T,
        "linear1.bias": ffn["up_proj"]["bias"],
        "linear2.weight": ffn["down_proj"]["kernel"].T,
        "linear2.bias": ffn["down_proj"]["bias"],
        "norm1.weight": params["attention_norm"]["scale"],
        "norm1.bias": params["attention_norm"]["bias"],
        "norm2.weight": params["ffn_norm"]["scale"],
        "norm2.bias": params["ffn_norm"]["bias"],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu"},
        {"pre_norm": False, "activation": "gelu", "short_conv_width": 2},
        {"norm": "rmsnorm", "qk_norm": True, "positions": "rotary", "activation": "squared_relu"},
    ],
)
def test_gradient_of_a_block_in_float64(key, options):
    layer = block(**options)
    params = layer.init(key, tokens_of())["params"]
    with jax.enable_x64(True):
        x = tokens_of(time=3, dtype=np.float64)
        params = perturbed(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params))

        def total(params, x):
            return jnp.sin(layer.apply({"params": params}, x, masks.causal(3)))

        assert total(params, x).dtype == jnp.float64
        # The second derivative of squared_relu jumps: differences over a larger step see it.
        check_grads(jax.jit(total), (params, x), order=1, modes=["rev"], eps=1e-6)


@pytest.mark.parametrize(("pre_norm", "short_conv_width"), [(True, 3), (False, 1)])
def test_cached_decode_equals_the_full_block(key, pre_norm, short_conv_width):
    x, layer = (
        tokens_of(batch=3),
        block(pre_norm=pre_norm, positions="rotary", short_conv_width=short_conv_width),
    )
    variables = perturbed(layer.init(key, x))
    full = layer.apply(variables, x, masks.causal(6))
    out, cache = layer.apply(variables, x[:, :4], masks.causal(4), method="prefill")
    np.testing.assert_allclose(out, full[:, :4], atol=1e-6)
    for position in (4, 5):
        token, row = x[:, position : position + 1], masks.decode_mask(position, 6)
        out, cache = layer.apply(variables, token, cache, position, row, method="decode")
        np.testing.assert_allclose(out[:, 0], full[:, position], atol=1e-5)


@pytest.mark.parametrize("silent", ["attention", "ffn"])
def test_dropout_is_applied_to_the_output_of_either_sub_layer(key, silent):
    x, layer = tokens_of(batch=1), block(dropout=0.5)
    params = layer.init(key, x)["params"]
    params = params | {silent: jax.tree.map(jnp.zeros_like, params[silent])}
    keys = jax.random.split(key, 1)
    update = layer.apply({"params": params}, x, masks.causal(6), dropout_keys=keys) - x
    # Dropped elements are exactly zero: about half of the 48.
    assert 0.2 < float((update == 0).mean()) < 0.8


def test_one_token_in_a_batch_of_one(key):
    x, layer = tokens_of(batch=1, time=1), block()
    chex.assert_shape(layer.apply(layer.init(key, x), x, masks.causal(1)), (1, 1, 8))


# DecoderBlock


def decoder_block(**options):
    return DecoderBlock(**{"embed_dim": 8, "num_heads": 2, "mlp_dim": 16, "length": 6} | options)


def memory_of(batch=2, time=5):
    """A memory and its mask, with padding in the first row."""
    memory = np.random.default_rng(7).standard_normal((batch, time, 8)).astype(np.float32)
    valid = np.ones((batch, time))
    valid[0, 3:] = 0
    return memory, valid


@pytest.mark.peers
def test_decoder_block_and_its_gradients_equal_pytorch(key):
    torch = pytest.importorskip("torch")
    x, layer, (memory, valid) = tokens_of(), decoder_block(), memory_of()
    params = perturbed(layer.init(key, x, memory)["params"])
    target = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    @jax.jit
    def total(params, x, memory):
        out = layer.apply({"params": params}, x, memory, masks.causal(6), masks.padding(valid))
        return jnp.sum(jnp.sin(out) * target)

    value, gradients = jax.value_and_grad(total, (0, 1, 2))(params, x, memory)

    torch_block = torch.nn.TransformerDecoderLayer(
        8, 2, 16, dropout=0.0, batch_first=True, norm_first=True
    )
    values = decoder_torch_values(params)
    found = torch_block.load_state_dict(
        {n: torch.tensor(np.array(v)) for n, v in values.items()}, False
    )
    assert not found.unexpected_keys
    assert all(name.endswith("in_proj_bias") for name in found.missing_keys)  # zeros there
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, memory)]
    out = torch_block(
        *leaves,
        tgt_mask=~torch.ones(6, 6, dtype=torch.bool).tril(),
        memory_key_padding_mask=torch.tensor(valid == 0),
    )
    theirs = (out.sin() * torch.tensor(target)).sum()
    theirs.backward()

    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5, atol=1e-5)
    for ours, leaf in zip(gradients[1:], leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), atol=1e-5)
    expected = dict(torch_block.named_parameters())
    for name, ours in decoder_torch_values(gradients[0]).items():
        np.testing.assert_allclose(ours, expected[name].grad.numpy(), atol=1e-5, err_msg=name)


def decoder_torch_values(params):
    names = ("query", "key", "value")
    ffn = params["ffn"]
    values = {
        "linear1.weight": ffn["up_proj"]["kernel"].T,
        "linear1.bias": ffn["up_proj"]["bias"],
        "linear2.weight": ffn["down_proj"]["kernel"].T,
        "linear2.bias": ffn["down_proj"]["bias"],
    }
    for theirs, ours in [("self_attn", "attention"), ("multihead_attn", "memory_attention")]:
        attention = params[ours]
        qkv = np.concatenate([attention[f"{name}_kernel"] for name in names], 1)
        values[f"{theirs}.in_proj_weight"] = qkv.T
        values[f"{theirs}.out_proj.weight"] = attention["out"]["kernel"].T
        values[f"{theirs}.out_proj.bias"] = attention["out"]["bias"]
    for number, ours in enumerate(("attention_norm", "memory_norm", "ffn_norm"), start=1):
        values[f"norm{number}.weight"] = params[ours]["scale"]
        values[f"norm{number}.bias"] = params[ours]["bias"]
    return values


def test_cached_decode_equals_the_full_decoder_block(key):
    x, layer = tokens_of(), decoder_block(positions="rotary")
    memory, valid = memory_of()
    variables, memory_mask = layer.init(key, x, memory), masks.padding(valid)
    full = layer.apply(variables, x, memory, masks.causal(6), memory_mask)
    memory_cache = layer.apply(variables, memory, method="project_memory")
    cache = empty_cache(2, 2, 6, 8)
    step = jax.jit(functools.partial(layer.apply, method="decode"))
    for position in range(6):
        token, row = x[:, position : position + 1], masks.decode_mask(position, 6)
        out, cache = step(variables, token, cache, memory_cache, position, row, memory_mask)
        np.testing.assert_allclose(out[:, 0], full[:, position], atol=1e-5)


def test_gradient_of_a_decoder_block_in_float64(key):
    layer, (memory, valid) = decoder_block(), memory_of()
    params = layer.init(key, tokens_of(), memory)["params"]
    with jax.enable_x64(True):
        x, memory = tokens_of(time=3, dtype=np.float64), np.asarray(memory, np.float64)
        params = perturbed(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params))
        mask, memory_mask = masks.causal(3), masks.padding(jnp.asarray(valid))

        def total(params, x, memory):
            return jnp.sin(layer.apply({"params": params}, x, memory, mask, memory_mask))

        assert total(params, x, memory).dtype == jnp.float64
        check_grads(jax.jit(total), (params, x, memory), order=1, modes=["rev"])


def test_a_fully_padded_memory_gives_finite_values(key):
    x, layer, (memory, _) = tokens_of(time=1), decoder_block(), memory_of()
    variables = layer.init(key, x, memory)
    all_padding = masks.padding(np.zeros((2, 5)))
    out = layer.apply(variables, x, memory, masks.causal(1), all_padding)
    other = layer.apply(variables, x, memory + 1, masks.causal(1), all_padding)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, other)
