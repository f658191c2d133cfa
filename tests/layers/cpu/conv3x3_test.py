"""3x3 convolutions in every implementation against scipy, XLA and finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxlabs.layers.convolution import conv3x3
from jaxlabs.layers.cpu import conv3x3 as cpu_conv3x3
from jaxlabs.layers.cpu import winograd
from jaxlabs.layers.cpu.conv3x3 import conv_as_matmuls, conv_gradients_as_matmuls
from jaxlabs.layers.cpu.dispatch import MIN_WINOGRAD_CHANNELS as MIN_CHANNELS
from jaxlabs.layers.cpu.dispatch import conv3x3_implementation
from jaxlabs.layers.matmul import PRECISIONS
from jaxlabs.training import gradient_check

pytestmark = pytest.mark.usefixtures("reused_executables")

IMPLEMENTATIONS = {
    "matmuls": (conv_as_matmuls, conv_gradients_as_matmuls),
    "winograd": (winograd.convolve, winograd.gradients),
}
SIZES = [(2, 6, 5), (0, 5, 4), (1, 1, 1), (1, 1, 3), (3, 2, 1), (1, 4, 2), (1, 9, 2)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_scipy(x, kernel):
    """Every image and pair of channels separately."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for image in range(len(x)):
        for i in range(kernel.shape[2]):
            for o in range(kernel.shape[3]):
                y[image, :, :, o] += scipy.signal.correlate2d(
                    padded[image, :, :, i], kernel[:, :, i, o], mode="valid"
                )
    return y


def xla(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout, precision="highest"
    )


@pytest.mark.parametrize("size", [(2, 5, 4), (0, 5, 4), (1, 1, 1), (1, 1, 3), (3, 2, 1)])
def test_convolution_equals_scipy(size):
    x, kernel = normal(*size, 3), normal(3, 3, 3, 2, seed=1)
    y = jax.jit(conv3x3, static_argnums=2)(x, kernel, "highest")
    chex.assert_shape(y, (*size, 2))
    np.testing.assert_allclose(y, by_scipy(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_every_implementation_equals_xla_in_value_and_gradient(size, implementation):
    """GPUs use XLA's convolution; all implementations and their gradients must be equal."""
    with jax.enable_x64(True):
        x, kernel = normal(*size, 4).astype(float), normal(3, 3, 4, 3, seed=1).astype(float)
        weight = normal(*size, 3, seed=2).astype(float)

        def with_gradients(implementation):
            total = lambda x, kernel: (implementation(x, kernel) * weight).sum()  # noqa: E731
            return jax.jit(jax.value_and_grad(total, (0, 1)))(x, kernel)

        expected = with_gradients(xla)
        forward, backward = IMPLEMENTATIONS[implementation]
        by_autodiff = with_gradients(lambda x, kernel: forward(x, kernel, "highest"))
        custom = jax.jit(backward, static_argnums=3)(x, kernel, weight, "highest")
    chex.assert_trees_all_close(by_autodiff, expected, rtol=1e-10, atol=1e-10)
    chex.assert_trees_all_close(custom, expected[1], rtol=1e-10, atol=1e-10)


def test_winograd_matrices_are_exact():
    """A_T @ ((G @ g) * (B_T @ d)) is y[k] = sum_r g[r] d[k + r] for every g and d."""
    matrices = (winograd.A_T, winograd.G, winograd.B_T)
    k, r, j = np.indices((4, 3, 6))
    np.testing.assert_allclose(np.einsum("kp,pr,pj->krj", *matrices), j == k + r, atol=1e-13)


@pytest.mark.parametrize("channels", [(32, 32), (64, 48), (48, 64)])
def test_rounding_error_of_winograd_in_float32_is_bounded(channels):
    """An RMS error of 2.2 times that of matmuls; with the points 0, +-1, +-2 it is at least 2.7."""
    x, kernel = normal(2, 12, 10, channels[0]), normal(3, 3, *channels, seed=1)
    gradient = normal(2, 12, 10, channels[1], seed=2)

    def errors(implementation):
        forward, backward = IMPLEMENTATIONS[implementation]
        both = jax.jit(lambda *args: (forward(*args[:2]), *backward(*args)))
        outputs = both(x, kernel, gradient)
        with jax.enable_x64(True):
            exact = jax.device_get(both(*(each.astype(float) for each in (x, kernel, gradient))))
        return [np.square(y - e).mean() ** 0.5 for y, e in zip(outputs, exact, strict=True)]

    for winograds, direct in zip(errors("winograd"), errors("matmuls"), strict=True):
        assert 0 < direct < winograds < 2.6 * direct


@pytest.mark.parametrize(
    ("height", "inputs", "outputs", "precision", "dtype", "matmuls"),
    [
        (8, MIN_CHANNELS, 40, "highest", jnp.float32, [6, 6 + 6]),
        (3, 40, MIN_CHANNELS, "default", jnp.float32, [6, 6 + 6]),
        (2, 40, 40, "default", jnp.float32, [3, 3 + 1]),
        (8, MIN_CHANNELS - 1, 40, "highest", jnp.float32, [3, 3 + 1]),
        (8, 40, MIN_CHANNELS - 1, "highest", jnp.float32, [3, 3 + 1]),
        (8, 40, 40, "bfloat16", jnp.float32, [3, 3 + 1]),
        (8, 40, 40, "default", jnp.bfloat16, [3, 3 + 1]),
    ],
)
def test_winograd_is_used_only_where_it_is_faster_and_precise(
    height, inputs, outputs, precision, dtype, matmuls
):
    x, kernel = jnp.zeros((1, height, 4, inputs), dtype), jnp.zeros((3, 3, inputs, outputs), dtype)

    def forward(x, kernel):
        return conv3x3(x, kernel, precision)

    def backward(x, kernel, gradient):
        return jax.vjp(forward, x, kernel)[1](gradient)

    def count(function, *args):
        lowered = jax.jit(function).trace(*args).lower(lowering_platforms=("cpu",))
        return lowered.as_text().count("stablehlo.dot_general")

    found = [count(forward, x, kernel), count(backward, x, kernel, forward(x, kernel))]
    assert found == matmuls


def test_winograd_takes_wide_float32_images_of_more_than_one_tile():
    wide, narrow = (3, 3, 40, 40), (3, 3, 40, 8)
    implementations = [
        conv3x3_implementation((2, 8, 8, 40), wide, jnp.float32, name) for name in PRECISIONS
    ]
    assert implementations == ["winograd", "winograd", "matmuls"]
    assert conv3x3_implementation((2, 8, 8, 40), wide, jnp.bfloat16, "highest") == "matmuls"
    assert conv3x3_implementation((2, 8, 8, 40), narrow, jnp.float32, "highest") == "matmuls"
    assert conv3x3_implementation((2, 2, 8, 40), wide, jnp.float32, "highest") == "matmuls"


def test_gradients_of_winograd_equal_finite_differences(key):
    inputs = normal(2, 5, 3, MIN_CHANNELS), normal(3, 3, MIN_CHANNELS, MIN_CHANNELS, seed=1)

    def total(inputs):
        return jnp.square(cpu_conv3x3.conv3x3(*inputs, "highest", "winograd")).mean()

    assert gradient_check.check(total, inputs, key=key).worst.relative_difference < 1e-6


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_have_the_dtypes_of_their_inputs(precision, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x, kernel = jnp.asarray(normal(1, 2, 2, 3), dtype), jnp.asarray(normal(3, 3, 3, 2), dtype)
        total = lambda x, kernel: jnp.sum(conv3x3(x, kernel, precision))  # noqa: E731
        gradients = jax.eval_shape(jax.jit(jax.grad(total, (0, 1))), x, kernel)
    chex.assert_trees_all_equal_dtypes(gradients, (x, kernel))


@pytest.mark.parametrize("size", [(2, 6, 5), (1, 1, 3), (3, 2, 1)])
def test_bfloat16_convolution_is_close_to_float32(size):
    x, kernel = normal(*size, 16), normal(3, 3, 16, 8, seed=1)

    def outputs(precision):
        total = lambda x, kernel: jnp.square(conv3x3(x, kernel, precision)).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(total, (0, 1)))(x, kernel)

    bf16, f32 = outputs("bfloat16"), outputs("highest")
    assert float(jnp.abs(bf16[1][1] - f32[1][1]).max()) > 0
    for ours, exact in zip(jax.tree.leaves(bf16), jax.tree.leaves(f32), strict=True):
        assert float(jnp.abs(ours - exact).max()) < 0.02 * float(jnp.abs(exact).max())
