"""The U-Net's block, pooling and upsampling against PyTorch and finite differences."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers.convolution import Conv3x3, ResidualBlock, max_pool_2x2, upsample_2x_bilinear
from jaxlabs.layers.cpu import resize
from jaxlabs.training import gradient_check

pytestmark = pytest.mark.usefixtures("reused_executables")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.peers
def test_upsampling_and_pooling_equal_pytorch():
    torch = pytest.importorskip("torch")
    x = normal(2, 4, 6, 3)
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2))
    doubled = torch.nn.functional.interpolate(theirs, scale_factor=2, mode="bilinear")
    halved = torch.nn.functional.max_pool2d(theirs, 2)
    np.testing.assert_allclose(
        upsample_2x_bilinear(x), doubled.numpy().transpose(0, 2, 3, 1), atol=1e-6
    )
    np.testing.assert_array_equal(max_pool_2x2(x), halved.numpy().transpose(0, 2, 3, 1))


def test_gradient_of_pooling_goes_to_the_first_maximum():
    windows = np.array([[[1, 1], [0, 1]], [[0, 2], [1, 1]], [[0, 1], [3, 3]], [[0, 1], [2, 3]]])
    x = windows.astype(np.float32)[..., None]
    expected = np.zeros_like(x)
    for window, corner in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[(window, *corner)] = 1
    np.testing.assert_array_equal(max_pool_2x2(x)[:, 0, 0, 0], [1, 2, 3, 3])
    np.testing.assert_array_equal(jax.grad(lambda x: max_pool_2x2(x).sum())(x), expected)


@pytest.mark.peers
def test_gradient_of_pooling_with_ties_equals_pytorch():
    torch = pytest.importorskip("torch")
    x, weights = np.round(normal(2, 4, 6, 3)), normal(2, 2, 3, 3, seed=1)
    ours = jax.grad(lambda x: jnp.sum(max_pool_2x2(x) * weights))(x)
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2)).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    (pooled * torch.from_numpy(weights.transpose(0, 3, 1, 2))).sum().backward()
    np.testing.assert_array_equal(ours, theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_upsampling_interpolates_and_repeats_edges():
    """0, 1 is upsampled to 0, 1/4, 3/4, 1."""
    ramp = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    doubled = upsample_2x_bilinear(ramp)
    chex.assert_shape(doubled, (1, 2, 4, 1))
    np.testing.assert_allclose(doubled[0, 0, :, 0], [0, 0.25, 0.75, 1])


def test_images_of_odd_size_are_refused():
    with pytest.raises(ValueError, match="7x4: not accepted; both must be even"):
        max_pool_2x2(jnp.zeros((1, 7, 4, 2)))


def test_gradients_of_the_block_equal_finite_differences():
    block = ResidualBlock(4, groups=2, precision="highest")
    x, time = normal(2, 4, 4, 2), normal(2, 3, seed=1)
    params = jax.jit(block.init)(jax.random.key(0), x, time)["params"]
    assert set(params) >= {"shortcut", "first", "second", "project"}

    def total(params, x, time):
        pooled = max_pool_2x2(block.apply({"params": params}, x, time))
        return jnp.square(upsample_2x_bilinear(pooled)).mean()

    assert gradient_check.check(total, params, x, time).worst.relative_difference < 1e-6


def test_block_with_equal_channels_has_no_shortcut_kernel():
    block = ResidualBlock(4, groups=2)
    shapes = jax.eval_shape(
        block.init, jax.random.key(0), jnp.zeros((1, 2, 2, 4)), jnp.zeros((1, 3))
    )
    assert "shortcut" not in shapes["params"]


def test_initialization_equals_pytorch():
    """Uniform within +-1 / sqrt(9 * channels), with a deviation of that limit / sqrt(3)."""
    params = Conv3x3(64).init(jax.random.key(0), jnp.zeros((1, 2, 2, 32)))["params"]
    limit = (9 * 32) ** -0.5
    assert float(jnp.abs(params["kernel"]).max()) == pytest.approx(limit, rel=0.01)
    assert float(params["kernel"].std()) == pytest.approx(limit / 3**0.5, rel=0.02)
    assert 0.8 * limit < float(jnp.abs(params["bias"]).max()) <= limit


def test_pooling_and_upsampling_on_cpus_equal_those_of_the_libraries():
    """Whole numbers, so that some windows have several maxima."""
    x = jnp.round(2 * jax.random.normal(jax.random.key(0), (2, 4, 6, 3)))

    def library_pool(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    def library_resize(x):
        return jax.image.resize(x, (2, 8, 12, 3), "bilinear")

    for ours, theirs in [
        (resize.max_pool_2x2, library_pool),
        (resize.upsample_2x_bilinear, library_resize),
    ]:
        results = [jax.vjp(implementation, x) for implementation in (ours, theirs)]
        np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)
        weights = jnp.arange(1.0, 1 + results[0][0].size).reshape(results[0][0].shape)
        gradients = [vjp(weights)[0] for _, vjp in results]
        np.testing.assert_allclose(*gradients, rtol=1e-5)
