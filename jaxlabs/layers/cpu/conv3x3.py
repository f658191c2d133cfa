"""3x3 convolutions of images `[batch, height, width, channels]`, as matmuls on CPUs.

XLA's convolution gains little from a second CPU core, and inside a loop, as in a training step, its
gradients take 16 to 100 times as long (jax 0.10 and 0.12, docs/kernel_times.py).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.cpu import winograd
from jaxlabs.layers.cpu.matmul import kernel_gradient
from jaxlabs.layers.matmul import matmul

HEIGHT, WIDTH = 1, 2
"""Axes of `[batch, height, width, channels]`."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv3x3(x: jax.Array, kernel: jax.Array, precision: str, implementation: str) -> jax.Array:
    """`jaxlabs.layers.convolution.conv3x3` by the implementation "winograd" or "matmuls".

    `x [batch, height, width, in]` and `kernel [3, 3, in, out]` have one dtype; the result is
    `[batch, height, width, out]`. Winograd's has half of the products; its rounding errors are
    relative to the six rows around a pixel, and a non-finite value spreads to four output rows.
    """
    convolve = winograd.convolve if implementation == "winograd" else conv_as_matmuls
    return convolve(x, kernel, precision)


def _forward(x: jax.Array, kernel: jax.Array, precision: str, implementation: str):
    return conv3x3(x, kernel, precision, implementation), (x, kernel)


def _backward(
    precision: str, implementation: str, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
):
    gradients = winograd.gradients if implementation == "winograd" else conv_gradients_as_matmuls
    return gradients(*saved, gradient, precision)


conv3x3.defvjp(_forward, _backward)


def conv_as_matmuls(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """`conv3x3`, `[batch, height, width, out]`, as one matmul per kernel column.

    `x` is `[batch, height, width, in]` and `kernel` `[3, 3, in, out]`. Three rows are stacked along
    channels:

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

    `x` is `[batch, height, width, in]`, `kernel` `[3, 3, in, out]` and `gradient` `[batch, height,
    width, out]`.

    The gradient of x is a convolution with the kernel rotated by 180 degrees. Here columns are
    stacked and rows are shifted, so that the same copies of the gradient serve both.
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
    """Stacks the previous, the current and the next pixel of `x [batch, height, width, channels]`.

    Returns `[batch, height, width, 3 * channels]`; pixels beyond the edge are zeros.
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
