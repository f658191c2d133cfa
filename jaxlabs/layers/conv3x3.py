"""3x3 convolutions of pictures `[batch, height, width, channels]`, as dots on CPUs.

XLA's own convolution gains little from a second core there, and its gradients take up to 30 times
as long; elsewhere it is used.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers import winograd
from jaxlabs.layers.matmul import kernel_gradient, lax_precision, matmul

LAYOUT = ("NHWC", "HWIO", "NHWC")
HEIGHT, WIDTH = 1, 2
"""Axes of `[batch, height, width, channels]`."""

MIN_CHANNELS = 32
"""On either side, for `winograd`: with fewer, its sums take longer than the products it saves."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Correlates pictures with a 3x3 kernel, zeros around them, `[batch, height, width, out]`.

    On CPUs wide float32 pictures take half the products (`winograd`): rounding is relative to the
    six lines around a pixel, and what is not finite spreads over four lines of the result.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out], in the dtype of x.
      precision: see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    form = winograd.convolve if _use_winograd(x, kernel, precision) else conv_as_matmuls
    dots = functools.partial(form, precision=precision)
    return lax.platform_dependent(x, kernel, cpu=dots, default=_library(precision))


def _use_winograd(x: jax.Array, kernel: jax.Array, precision: str) -> bool:
    """Whether `winograd` has fewer products, and its sums are short and fine enough."""
    height, wide = x.shape[HEIGHT], min(kernel.shape[2:]) >= MIN_CHANNELS
    fewer = 2 * -(-height // winograd.STRIDE) < height
    return precision != "bfloat16" and jnp.finfo(x.dtype).bits >= 32 and wide and fewer


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
    return conv3x3(x, kernel, precision), (x, kernel)


def _backward(precision: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    def by_library(x, kernel, gradient):
        return jax.vjp(_library(precision), x, kernel)[1](gradient)

    form = winograd.gradients if _use_winograd(*saved, precision) else gradients_by_dots
    dots = functools.partial(form, precision=precision)
    return lax.platform_dependent(*saved, gradient, cpu=dots, default=by_library)


conv3x3.defvjp(_forward, _backward)


def conv_as_matmuls(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """`conv3x3` as a dot for every column of taps, which meets three lines side by side.

        lines  [batch, height, width, 3 * in]    lines h-1, h, h+1 of every pixel
        y[w] = lines[w-1] @ taps[left] + lines[w] @ taps[middle] + lines[w+1] @ taps[right]

    So only a third of the nine copies of the usual patches is ever written.
    """
    lines = _stack_shifts(x, HEIGHT)
    taps = (kernel[:, column].reshape(-1, kernel.shape[-1]) for column in range(3))
    return _sum_shifted([matmul(lines, each, precision) for each in taps], WIDTH)


def gradients_by_dots(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str = "default"
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and of `kernel`, given that of `conv_as_matmuls`.

    That of x is a convolution with the kernel turned by 180 degrees. Here columns stand side by
    side and lines are moved, so that the same copies of the gradient serve both.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      gradient: [batch, height, width, out].
      precision: see `jaxlabs.layers.matmul`.
    """
    columns = _stack_shifts(gradient, WIDTH)
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    taps = (turned[line].reshape(-1, x.shape[-1]) for line in range(3))
    of_x = _sum_shifted([matmul(columns, each, precision) for each in taps], HEIGHT)

    # [line, in, column, out]; a column of taps has met the gradient of the opposite neighbor.
    of_kernel = kernel_gradient(_stack_shifts(x, HEIGHT), columns, precision)
    of_kernel = of_kernel.reshape(3, x.shape[-1], 3, gradient.shape[-1])
    of_kernel = jnp.flip(of_kernel, 2).swapaxes(1, 2)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _stack_shifts(x: jax.Array, axis: int) -> jax.Array:
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


def _sum_shifted(three: Sequence[jax.Array], axis: int) -> jax.Array:
    """Adds `three[0]` one pixel on, `three[1]`, and `three[2]` one pixel back; zeros come in."""

    def move(x: jax.Array, pixels: int) -> jax.Array:
        padding = [(pixels, -pixels, 0) if each == axis else (0, 0, 0) for each in range(x.ndim)]
        return lax.pad(x, jnp.zeros((), x.dtype), padding)

    before, here, after = three
    return here + move(before, 1) + move(after, -1)
