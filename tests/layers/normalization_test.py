import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers.normalization import EPSILON, build_norm


def sample(shape=(2, 3, 8), offset=1.5):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 3 + offset


def test_rms_norm_equals_numpy_and_has_no_parameters(key):
    x = sample()
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + EPSILON)
    norm = build_norm("rmsnorm")
    assert jax.tree.leaves(norm.init(key, x)) == []
    np.testing.assert_allclose(norm.apply({}, x), expected, rtol=1e-6)


def test_layer_norm_equals_numpy():
    x, random = sample(), np.random.default_rng(1)
    scale, bias = random.standard_normal((2, 8)).astype(np.float32)
    wide = x.astype(np.float64)
    centered = wide - wide.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    expected = centered / deviation * scale[None, None] + bias[None, None]
    got = build_norm("layernorm").apply({"params": {"scale": scale, "bias": bias}}, x)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    unbiased = build_norm("layernorm", use_bias=False).apply({"params": {"scale": scale}}, x)
    np.testing.assert_allclose(unbiased, expected - bias[None, None], atol=2e-6)


def test_layer_norm_is_accurate_with_a_large_mean():
    x = sample(offset=3000.0)
    params = {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
    got = build_norm("layernorm").apply({"params": params}, x)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.peers
def test_layer_norm_and_its_gradients_equal_pytorch():
    torch = pytest.importorskip("torch")
    x, random = sample(), np.random.default_rng(1)
    scale, bias, target = random.standard_normal((3, 8)).astype(np.float32)

    def total(x, scale, bias):
        norm = build_norm("layernorm").apply({"params": {"scale": scale, "bias": bias}}, x)
        return jnp.sum(jnp.sin(norm) * target[None, None])

    gradients = jax.grad(total, (0, 1, 2))(x, scale, bias)
    leaves = [torch.tensor(value, requires_grad=True) for value in (x, scale, bias)]
    y = torch.nn.functional.layer_norm(leaves[0], (8,), leaves[1], leaves[2])
    theirs = (y.sin() * torch.tensor(target)).sum()
    theirs.backward()
    np.testing.assert_allclose(total(x, scale, bias), theirs.item(), rtol=1e-5)
    for ours, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), atol=1e-5)


@pytest.mark.peers
def test_rms_norm_equals_pytorch():
    torch = pytest.importorskip("torch")
    x = sample()
    theirs = torch.nn.functional.rms_norm(torch.tensor(x), (8,), eps=EPSILON)
    np.testing.assert_allclose(build_norm("rmsnorm").apply({}, x), theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_a_constant_row_becomes_a_constant(key, kind):
    norm = build_norm(kind)
    x = np.full((1, 8), 7, np.float32)
    expected = 0.0 if kind == "layernorm" else 1.0
    np.testing.assert_allclose(norm.apply(norm.init(key, x), x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_gradient_in_float64(key, kind):
    norm = build_norm(kind)
    variables = norm.init(key, sample((1, 8)))
    with jax.enable_x64(True):
        x = sample((2, 8)).astype(np.float64)
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.1, variables)
        assert norm.apply(variables, x).dtype == jnp.float64
        check_grads(jax.jit(lambda v, x: jnp.sin(norm.apply(v, x))), (variables, x), order=1)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_a_row_of_zeros_has_a_finite_gradient(key, kind):
    norm = build_norm(kind)
    x = jnp.zeros((1, 4))
    gradient = jax.grad(lambda x: norm.apply(norm.init(key, x), x).sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_statistics_of_bfloat16_are_computed_in_float32(key, kind):
    x = jnp.asarray(sample((4, 512), offset=0.0), jnp.bfloat16)
    norm = build_norm(kind)
    wide = x.astype(jnp.float32)
    variables = norm.init(key, wide)
    expected = norm.apply(variables, wide)
    got = norm.apply(variables, x).astype(jnp.float32)
    np.testing.assert_allclose(got, expected, rtol=2**-7, atol=1e-6)


def test_unknown_norm_lists_the_accepted_ones():
    with pytest.raises(ValueError, match="'batchnorm' is not one of layernorm, rmsnorm"):
        build_norm("batchnorm")
