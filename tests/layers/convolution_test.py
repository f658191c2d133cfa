"""Holds convolution, pooling and up-sampling to scipy, PyTorch and finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxlabs.analysis import gradients
from jaxlabs.layers.convolution import (
    Conv3x3,
    ResidualBlock,
    convolve3x3,
    convolve3x3_by_dots,
    gradients_by_dots,
    max_pool,
    upsample,
)
from jaxlabs.layers.matmul import PRECISIONS

pytestmark = pytest.mark.usefixtures("reused_executables")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_scipy(x, kernel):
    """Every picture and pair of channels on its own."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for image in range(len(x)):
        for i in range(kernel.shape[2]):
            for o in range(kernel.shape[3]):
                y[image, :, :, o] += scipy.signal.correlate2d(
                    padded[image, :, :, i], kernel[:, :, i, o], mode="valid"
                )
    return y


def library(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout, precision="highest"
    )


@pytest.mark.parametrize("size", [(2, 5, 4), (0, 5, 4), (1, 1, 1), (1, 1, 3), (3, 2, 1)])
def test_convolution_is_scipys_correlation(size):
    x, kernel = draw(*size, 3), draw(3, 3, 3, 2, seed=1)
    y = jax.jit(convolve3x3, static_argnums=2)(x, kernel, "highest")
    chex.assert_shape(y, (*size, 2))
    np.testing.assert_allclose(y, by_scipy(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(2, 6, 5), (1, 1, 1), (1, 1, 3), (3, 2, 1)])
def test_both_ways_to_convolve_agree_in_value_and_gradient(size):
    """A GPU takes the library's; both must be the same function."""
    x, kernel, weight = draw(*size, 4), draw(3, 3, 4, 3, seed=1), draw(*size, 3, seed=2)

    def with_gradients(form):
        total = lambda x, kernel: (form(x, kernel) * weight).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(total, (0, 1)))(x, kernel)

    ours = with_gradients(lambda x, kernel: convolve3x3(x, kernel, "highest"))
    dots = with_gradients(lambda x, kernel: convolve3x3_by_dots(x, kernel, "highest"))
    by_hand = gradients_by_dots(x, kernel, weight, "highest")
    chex.assert_trees_all_close(ours, with_gradients(library), rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(ours, dots, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(ours[1], by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_have_the_dtypes_of_their_inputs(precision, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x, kernel = jnp.asarray(draw(1, 2, 2, 3), dtype), jnp.asarray(draw(3, 3, 3, 2), dtype)
        total = lambda x, kernel: jnp.sum(convolve3x3(x, kernel, precision))  # noqa: E731
        gradients = jax.eval_shape(jax.jit(jax.grad(total, (0, 1))), x, kernel)
    chex.assert_trees_all_equal_dtypes(gradients, (x, kernel))


@pytest.mark.parametrize("size", [(2, 6, 5), (1, 1, 3), (3, 2, 1)])
def test_fast_convolution_is_near_the_strict_one(size):
    x, kernel = draw(*size, 16), draw(3, 3, 16, 8, seed=1)

    def outputs(precision):
        total = lambda x, kernel: jnp.square(convolve3x3(x, kernel, precision)).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(total, (0, 1)))(x, kernel)

    fast, strict = outputs("fast"), outputs("highest")
    assert float(jnp.abs(fast[1][1] - strict[1][1]).max()) > 0
    for ours, exact in zip(jax.tree.leaves(fast), jax.tree.leaves(strict), strict=True):
        assert float(jnp.abs(ours - exact).max()) < 0.02 * float(jnp.abs(exact).max())


@pytest.mark.peers
def test_upsampling_and_pooling_are_pytorchs():
    torch = pytest.importorskip("torch")
    x = draw(2, 4, 6, 3)
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2))
    doubled = torch.nn.functional.interpolate(theirs, scale_factor=2, mode="bilinear")
    halved = torch.nn.functional.max_pool2d(theirs, 2)
    np.testing.assert_allclose(upsample(x), doubled.numpy().transpose(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_array_equal(max_pool(x), halved.numpy().transpose(0, 2, 3, 1))


def test_gradient_of_pooling_goes_to_the_first_of_the_largest():
    squares = np.array([[[1, 1], [0, 1]], [[0, 2], [1, 1]], [[0, 1], [3, 3]], [[0, 1], [2, 3]]])
    x = squares.astype(np.float32)[..., None]
    expected = np.zeros_like(x)
    for square, corner in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[(square, *corner)] = 1
    np.testing.assert_array_equal(max_pool(x)[:, 0, 0, 0], [1, 2, 3, 3])
    np.testing.assert_array_equal(jax.grad(lambda x: max_pool(x).sum())(x), expected)


@pytest.mark.peers
def test_gradient_of_pooling_goes_to_the_first_of_equals_as_pytorchs():
    torch = pytest.importorskip("torch")
    x, weights = np.round(draw(2, 4, 6, 3)), draw(2, 2, 3, 3, seed=1)
    ours = jax.grad(lambda x: jnp.sum(max_pool(x) * weights))(x)
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2)).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    (pooled * torch.from_numpy(weights.transpose(0, 3, 1, 2))).sum().backward()
    np.testing.assert_array_equal(ours, theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_upsampling_keeps_slopes_and_repeats_edges():
    """By hand: of 0 and 1, the new pixels are 0, 1/4, 3/4, 1."""
    ramp = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    doubled = upsample(ramp)
    chex.assert_shape(doubled, (1, 2, 4, 1))
    np.testing.assert_allclose(doubled[0, 0, :, 0], [0, 0.25, 0.75, 1])


def test_pictures_of_odd_size_are_not_halved():
    with pytest.raises(ValueError, match="7x4: not accepted; both even"):
        max_pool(jnp.zeros((1, 7, 4, 2)))


def test_gradients_of_the_block_are_differences():
    block = ResidualBlock(4, groups=2, precision="highest")
    x, time = draw(2, 4, 4, 2), draw(2, 3, seed=1)
    params = jax.jit(block.init)(jax.random.key(0), x, time)["params"]
    assert set(params) >= {"shortcut", "first", "second", "project"}

    def total(params, x, time):
        pooled = max_pool(block.apply({"params": params}, x, time))
        return jnp.square(upsample(pooled)).mean()

    assert gradients.check(total, params, x, time).worst.relative_difference < 1e-6


def test_block_without_new_channels_has_no_shortcut_kernel():
    block = ResidualBlock(4, groups=2)
    shapes = jax.eval_shape(
        block.init, jax.random.key(0), jnp.zeros((1, 2, 2, 4)), jnp.zeros((1, 3))
    )
    assert "shortcut" not in shapes["params"]


def test_layers_start_as_pytorchs():
    """Uniform within +-1 / sqrt(9 * channels), so that deviations are a root of 3 below it."""
    params = Conv3x3(64).init(jax.random.key(0), jnp.zeros((1, 2, 2, 32)))["params"]
    limit = (9 * 32) ** -0.5
    assert float(jnp.abs(params["kernel"]).max()) == pytest.approx(limit, rel=0.01)
    assert float(params["kernel"].std()) == pytest.approx(limit / 3**0.5, rel=0.02)
    assert 0.8 * limit < float(jnp.abs(params["bias"]).max()) <= limit
