"""3x3 convolutions of images `[batch, height, width, channels]`, as matmuls on CPUs.

XLA's convolution gains little from a second CPU core, and its gradients take up to 30 times as
long. Other platforms use it.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.cpu import winograd
from jaxlabs.layers.matmul import kernel_gradient, lax_precision, matmul

LAYOUT = ("NHWC", "HWIO", "NHWC")
HEIGHT, WIDTH = 1, 2
"""Axes of `[batch, height, width, channels]`."""

MIN_CHANNELS = 32
"""Input and output channels from which `winograd` is used: with fewer, its transforms take longer
than the products that it saves."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Correlates images with a 3x3 kernel under zero padding, `[batch, height, width, out]`.

    On CPUs float32 images with many channels take half the products (`winograd`): rounding errors
    are relative to the six rows around a pixel, and a non-finite value spreads to four output rows.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out], in the dtype of x.
      precision: see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    form = winograd.convolve if _use_winograd(x, kernel, precision) else conv_as_matmuls
    on_cpu = functools.partial(form, precision=precision)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=_xla_conv(precision))


def _use_winograd(x: jax.Array, kernel: jax.Array, precision: str) -> bool:
    """Whether `winograd` has fewer products, cheap transforms and a precise enough dtype."""
    height, wide = x.shape[HEIGHT], min(kernel.shape[2:]) >= MIN_CHANNELS
    fewer = 2 * -(-height // winograd.TILE_OUT) < height
    return precision != "bfloat16" and jnp.finfo(x.dtype).bits >= 32 and wide and fewer


def _xla_conv(precision: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns XLA's convolution."""
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
    def xla_gradients(x, kernel, gradient):
        return jax.vjp(_xla_conv(precision), x, kernel)[1](gradient)

    form = winograd.gradients if _use_winograd(*saved, precision) else conv_gradients_as_matmuls
    on_cpu = functools.partial(form, precision=precision)
    return lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=xla_gradients)


conv3x3.defvjp(_forward, _backward)


def conv_as_matmuls(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """`conv3x3` as one matmul per kernel column, over three rows stacked along channels.

        rows  [batch, height, width, 3 * in]    rows h-1, h, h+1 at every pixel
        y[w] = rows[w-1] @ taps[left] + rows[w] @ taps[middle] + rows[w+1] @ taps[right]

    So only three copies of the input are written, where im2col writes nine.
    """
    rows = _stack_shifts(x, HEIGHT)
    taps = (kernel[:, column].reshape(-1, kernel.shape[-1]) for column in range(3))
    return _sum_shifted([matmul(rows, each, precision) for each in taps], WIDTH)


def conv_gradients_as_matmuls(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str = "default"
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and of `kernel`, given that of `conv_as_matmuls`.

    The gradient of x is a convolution with the kernel rotated by 180 degrees. Here columns are
    stacked and rows are shifted, so that the same copies of the gradient serve both.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      gradient: [batch, height, width, out].
      precision: see `jaxlabs.layers.matmul`.
    """
    columns = _stack_shifts(gradient, WIDTH)
    rotated = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    taps = (rotated[row].reshape(-1, x.shape[-1]) for row in range(3))
    x_grad = _sum_shifted([matmul(columns, each, precision) for each in taps], HEIGHT)

    # [row, in, column, out]; a column of taps meets the gradient of the opposite neighbor.
    kernel_grad = kernel_gradient(_stack_shifts(x, HEIGHT), columns, precision)
    kernel_grad = kernel_grad.reshape(3, x.shape[-1], 3, gradient.shape[-1])
    kernel_grad = jnp.flip(kernel_grad, 2).swapaxes(1, 2)
    return x_grad.astype(x.dtype), kernel_grad.astype(kernel.dtype)


def _stack_shifts(x: jax.Array, axis: int) -> jax.Array:
    """Stacks the previous, the current and the next pixel along channels; zeros beyond the edge.

    Args:
      x: [batch, height, width, channels].
      axis: HEIGHT or WIDTH.

    Returns:
      [batch, height, width, 3 * channels].
    """
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(each == axis),) * 2 for each in range(x.ndim)])
    three = [lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3)]
    # A new axis: when it concatenates along channels, XLA on CPUs writes each operand first.
    return jnp.stack(three, axis=3).reshape(*x.shape[:3], 3 * x.shape[3])


def _sum_shifted(three: Sequence[jax.Array], axis: int) -> jax.Array:
    """Sums `three[0]` shifted by +1 pixel, `three[1]`, and `three[2]` shifted by -1; zero fill."""

    def shift(x: jax.Array, pixels: int) -> jax.Array:
        padding = [(pixels, -pixels, 0) if each == axis else (0, 0, 0) for each in range(x.ndim)]
        return lax.pad(x, jnp.zeros((), x.dtype), padding)

    previous, current, following = three
    return current + shift(previous, 1) + shift(following, -1)
