"""Convolutions of pictures `[batch, height, width, channels]`, and the blocks of a U-Net."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.initializers import FAN_IN_UNIFORM
from jaxlabs.layers.matmul import (
    Dense,
    Initializer,
    lax_precision,
    matmul,
    sum_of_outer_products,
    within,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
HEIGHT, WIDTH = 1, 2
"""Axes of `[batch, height, width, channels]`."""

EPSILON = 1e-5


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve3x3(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Correlates pictures with a 3x3 kernel, zeros around them, `[batch, height, width, out]`.

    On CPUs it is three matrix products with a gradient of their own, since XLA's convolution gains
    little from a second core there and its gradients take up to 30 times as long; elsewhere it is
    XLA's.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      precision: see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    dots = functools.partial(convolve3x3_by_dots, precision=precision)
    return lax.platform_dependent(x, kernel, cpu=dots, default=_library(precision))


def _library(precision: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns XLA's own convolution."""
    return functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=LAYOUT,
        precision=lax_precision(precision),
    )


def _forward(x: jax.Array, kernel: jax.Array, precision: str):
    return convolve3x3(x, kernel, precision), (x, kernel)


def _backward(precision: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    def by_library(x, kernel, gradient):
        return jax.vjp(_library(precision), x, kernel)[1](gradient)

    dots = functools.partial(gradients_by_dots, precision=precision)
    return lax.platform_dependent(*saved, gradient, cpu=dots, default=by_library)


convolve3x3.defvjp(_forward, _backward)


def convolve3x3_by_dots(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """`convolve3x3` as a dot for every column of taps, which meets three lines side by side.

        lines  [batch, height, width, 3 * in]    lines h-1, h, h+1 of every pixel
        y[w] = lines[w-1] @ taps[left] + lines[w] @ taps[middle] + lines[w+1] @ taps[right]

    So only a third of the nine copies of the usual patches is ever written.
    """
    lines = _neighbours(x, HEIGHT)
    taps = (kernel[:, column].reshape(-1, kernel.shape[-1]) for column in range(3))
    return _add_moved([matmul(lines, each, precision) for each in taps], WIDTH)


def gradients_by_dots(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str = "default"
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and of `kernel`, given that of `convolve3x3_by_dots`.

    That of x is a convolution with the kernel turned by 180 degrees. Here columns stand side by
    side and lines are moved, so that the same copies of the gradient serve both.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      gradient: [batch, height, width, out].
      precision: see `jaxlabs.layers.matmul`.
    """
    columns = _neighbours(gradient, WIDTH)
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    taps = (turned[line].reshape(-1, x.shape[-1]) for line in range(3))
    of_x = _add_moved([matmul(columns, each, precision) for each in taps], HEIGHT)

    # [line, in, column, out]; a column of taps has met the gradient of the opposite neighbour.
    of_kernel = sum_of_outer_products(_neighbours(x, HEIGHT), columns, precision)
    of_kernel = of_kernel.reshape(3, x.shape[-1], 3, gradient.shape[-1])
    of_kernel = jnp.flip(of_kernel, 2).swapaxes(1, 2)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _neighbours(x: jax.Array, axis: int) -> jax.Array:
    """Returns the pixel before, the pixel itself and the one after, zeros beyond the edge.

    Args:
      x: [batch, height, width, channels].
      axis: HEIGHT or WIDTH.

    Returns:
      [batch, height, width, 3 * channels].
    """
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(each == axis),) * 2 for each in range(x.ndim)])
    three = [lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3)]
    # On an axis of their own: joined along channels, XLA on CPUs writes each before the whole.
    return jnp.stack(three, axis=3).reshape(*x.shape[:3], 3 * x.shape[3])


def _add_moved(three: Sequence[jax.Array], axis: int) -> jax.Array:
    """Adds `three[0]` one pixel on, `three[1]`, and `three[2]` one pixel back; zeros come in."""

    def move(x: jax.Array, pixels: int) -> jax.Array:
        padding = [(pixels, -pixels, 0) if each == axis else (0, 0, 0) for each in range(x.ndim)]
        return lax.pad(x, jnp.zeros((), x.dtype), padding)

    before, here, after = three
    return here + move(before, 1) + move(after, -1)


class Conv3x3(nn.Module):
    """A 3x3 convolution with a bias, zeros around the picture; it starts as PyTorch's.

    Attributes:
      features: channels of the result.
      kernel_init: initializer of the kernel.
      precision: see `jaxlabs.layers.matmul`.
    """

    features: int
    kernel_init: Initializer = FAN_IN_UNIFORM
    precision: str = "default"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]` for `x [batch, height, width, channels]`."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias_init = within((9 * x.shape[-1]) ** -0.5)
        bias = self.param("bias", bias_init, (self.features,))
        return convolve3x3(x, kernel, self.precision) + bias[None, None, None, :]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that are told the time, and a shortcut around them.

        h = silu(norm(conv(x)))
        h = h + project(time)
        h = silu(norm(conv(h)))
        y = h + shortcut(x)            a 1x1 convolution where the number of channels changes

    Attributes:
      features: channels of the result.
      groups: of the group norms (Wu and He 2018); they divide the features.
      precision: see `jaxlabs.layers.matmul`.
    """

    features: int
    groups: int = 8
    precision: str = "default"

    def setup(self):
        convolve = functools.partial(Conv3x3, self.features, precision=self.precision)
        norm = functools.partial(nn.GroupNorm, self.groups, epsilon=EPSILON)
        self.first, self.second = convolve(), convolve()
        self.first_norm, self.second_norm = norm(), norm()
        self.project, self.shortcut = self._dense(), self._dense()

    def _dense(self) -> Dense:
        return Dense(self.features, True, FAN_IN_UNIFORM, self.precision, bias_range=1.0)

    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]`.

        Args:
          x: [batch, height, width, channels].
          time: [batch, time_width] embedding of each picture's time.
        """
        h = nn.silu(self.first_norm(self.first(x)))
        h = h + self.project(time)[:, None, None, :]
        h = nn.silu(self.second_norm(self.second(h)))
        return h + (x if x.shape[-1] == self.features else self.shortcut(x))


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maxima of 2x2 squares, `[batch, height / 2, width / 2, channels]`.

    Its gradient goes to the largest of the four; of equals to the first, as in PyTorch.

    Raises:
      ValueError: height or width is odd.
    """
    return _pool(x)[0]


def _pool(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maxima, and which of the four corners, in 0..3, each of them was."""
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"{height}x{width}: not accepted; both even, to be halved")
    squares = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    corners = [squares[:, :, line, :, column] for line in range(2) for column in range(2)]
    largest, corner = corners[0], jnp.zeros(corners[0].shape, jnp.int8)
    for number, other in enumerate(corners[1:], start=1):
        corner = jnp.where(other > largest, jnp.int8(number), corner)
        largest = jnp.maximum(largest, other)
    return largest, corner


def _pool_backward(corner: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # By number, since a maximum that XLA computes anew may be rounded otherwise and equal none of
    # the four; and where they stand, since slices that are put together again are slow on CPUs.
    batch, height, width, channels = gradient.shape
    corner, gradient = (side[:, :, None, :, None, :] for side in (corner, gradient))
    numbers = jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
    gradient = jnp.where(corner == numbers, gradient, 0)
    return (gradient.reshape(batch, 2 * height, 2 * width, channels),)


max_pool.defvjp(_pool, _pool_backward)


def upsample(x: jax.Array) -> jax.Array:
    """Returns pictures of twice the size, `[batch, 2 * height, 2 * width, channels]`.

    Bilinear, as `torch.nn.functional.interpolate(..., align_corners=False)`: every new pixel is
    3/4 of the pixel that it lies in and 1/4 of the next one, per axis; edges are repeated.
    """
    x = jnp.asarray(x)
    batch, height, width, channels = x.shape
    x = _double(x.reshape(batch, height, width * channels))
    x = _double(x.reshape(batch * 2 * height, width, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def _double(x: jax.Array) -> jax.Array:
    """Doubles the middle axis of `x [batch, size, channels]`."""
    # A dot, since XLA on CPUs fuses sums of neighbours with all that x comes from, computed anew
    # for each; a dot for every example, since jax.image.resize transposes large arrays for its own.
    batch, size, _ = x.shape
    weights = jax.image.resize(jnp.eye(size, dtype=x.dtype), (2 * size, size), "bilinear")
    weights = jnp.broadcast_to(weights, (batch, 2 * size, size))
    return jnp.matmul(weights, x, precision=lax.Precision.HIGHEST)
