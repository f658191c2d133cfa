"""3x3 convolutions with half the products: Winograd's F(4, 3) over rows.

Four output rows y[k] = g[0] d[k] + g[1] d[k+1] + g[2] d[k+2] of six input rows d and three taps g
take six products instead of twelve (Winograd 1980; Lavin and Gray 2015):

    y = A_T @ ((G @ g) * (B_T @ d))

This is the transpose of polynomial multiplication by evaluation at six points. With columns and
channels the products become matmuls. F(4x4, 3x3) over both axes would leave a quarter of the
products, but its transforms take longer than the matmuls.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers.cpu.dispatch import WINOGRAD_ROWS
from jaxlabs.layers.cpu.matmul import kernel_gradient
from jaxlabs.layers.matmul import matmul

POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Evaluation points besides infinity.

The RMS rounding error in float32 is 2.2 times that of a direct convolution by matmuls; with the
paper's points 0, +-1, +-2 it is 3.3 times, and of XLA's convolution on CPUs 1.1 to 4.3 times.
"""

TILE_OUT, TILE_IN = WINOGRAD_ROWS, 6
"""Output rows of a tile, and the input rows that they depend on."""


def _at_points(size: int) -> np.ndarray:
    """Returns the matrix `[points, size]` that evaluates a polynomial with `size` coefficients."""
    infinity = np.eye(size)[-1:]
    return np.concatenate([np.vander(POINTS, size, increasing=True), infinity])


A_T, G = _at_points(TILE_OUT).T, _at_points(3)
# Rounded, so that zeros are exact and skipped in the transforms.
B_T = np.round(np.linalg.inv(_at_points(TILE_IN)).T, 14)


def convolve(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Returns `jaxlabs.layers.convolution.conv3x3`, `[batch, height, width, out]`.

    The images are `x [batch, height, width, in]`, the kernel is `[3, 3, in, out]`.
    """
    rows = [_stack_columns(each) for each in _transform(B_T, _tiles(x, TILE_IN, margin=1))]
    taps = [each.reshape(-1, kernel.shape[-1]) for each in _transform(G, kernel)]
    products = [matmul(*pair, precision) for pair in zip(rows, taps, strict=True)]
    return _untile(_transform(A_T, products), x.shape[1])


def gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str = "default"
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and of `kernel`, given that of `convolve`.

    `x` is `[batch, height, width, in]`, `kernel` `[3, 3, in, out]` and `gradient` `[batch, height,
    width, out]`.
    """
    product_grads = _transform(A_T.T, _tiles(gradient, TILE_OUT, margin=1))
    product_grads = [_stack_columns(each) for each in product_grads]
    # A column of taps meets the gradient of the opposite neighbor.
    flipped = jnp.flip(kernel, 1).swapaxes(2, 3)
    taps = [each.reshape(-1, x.shape[-1]) for each in _transform(G, flipped)]
    row_grads = [matmul(*pair, precision) for pair in zip(product_grads, taps, strict=True)]
    x_grad = _add_overlaps(_transform(B_T.T, row_grads), x.shape[1])

    rows = _transform(B_T, _tiles(x, TILE_IN, margin=0))
    pairs = zip(rows, product_grads, strict=True)
    tap_grads = [kernel_gradient(*pair, precision) for pair in pairs]
    kernel_grad = jnp.stack(_transform(G.T, tap_grads))
    kernel_grad = kernel_grad.reshape(3, x.shape[-1], 3, gradient.shape[-1])
    kernel_grad = jnp.flip(kernel_grad, 2).swapaxes(1, 2)
    return x_grad.astype(x.dtype), kernel_grad.astype(kernel.dtype)


def _tiles(x: jax.Array, count: int, margin: int) -> list[jax.Array]:
    """Returns row i of every tile for each i of `count`, with `margin` columns of zeros around.

    Args:
      x: [batch, height, width, channels]; rows beyond its edges are zeros.
      count: TILE_OUT, for rows 0, 4, 8, ... to 3, 7, 11, ..., or TILE_IN, for one more on either
        side: -1, 3, 7, ... to 4, 8, 12, ...
      margin: columns of zero padding on either side.

    Returns:
      `count` times [batch, height / 4 rounded up, width + 2 * margin, channels].
    """
    height, tiles, pad_top = x.shape[1], -(-x.shape[1] // TILE_OUT), (count - TILE_OUT) // 2
    last = TILE_OUT * (tiles - 1)
    pad_bottom = last + count - pad_top - height
    padded = jnp.pad(x, ((0, 0), (pad_top, pad_bottom), (margin, margin), (0, 0)))
    return [lax.slice_in_dim(padded, i, i + last + 1, TILE_OUT, axis=1) for i in range(count)]


def _transform(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns `matrix @ arrays`: one weighted sum of the arrays for each row of the matrix."""

    def weighted_sum(row: np.ndarray) -> jax.Array:
        terms = [float(w) * array for w, array in zip(row, arrays, strict=True) if w]
        return sum(terms[1:], start=terms[0])

    return [weighted_sum(row) for row in matrix]


def _stack_columns(padded: jax.Array) -> jax.Array:
    """Stacks three adjacent columns of `padded [batch, rows, width + 2, channels]` along channels.

    Returns `[batch, rows, width, 3 * channels]`.
    """
    batch, rows, width, channels = padded.shape
    three = [padded[:, :, column : column + width - 2] for column in range(3)]
    return jnp.stack(three, axis=3).reshape(batch, rows, width - 2, 3 * channels)


def _untile(rows: Sequence[jax.Array], height: int) -> jax.Array:
    """Inverts `_tiles` for TILE_OUT rows, `[batch, height, width, channels]`."""
    batch, tiles, width, channels = rows[0].shape
    joined = jnp.stack(rows, axis=2).reshape(batch, TILE_OUT * tiles, width, channels)
    return joined[:, :height]


def _add_overlaps(rows: Sequence[jax.Array], height: int) -> jax.Array:
    """Transposes `_tiles` for TILE_IN rows: sums the tiles that overlap in a row."""

    def shift(x: jax.Array, tiles: int) -> jax.Array:
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (tiles, -tiles, 0), *[(0, 0, 0)] * 2])

    above, *own, below = rows
    own[0] += shift(below, 1)
    own[-1] += shift(above, -1)
    return _untile(own, height)
