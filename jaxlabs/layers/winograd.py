"""3x3 convolutions with half the products: Winograd's, over lines.

Three taps g meet six lines d in four lines y, y[k] = g[0] d[k] + g[1] d[k+1] + g[2] d[k+2], with
six products in place of twelve (Winograd 1980; Lavin and Gray 2015 for networks):

    y = OUTPUTS @ ((TAPS @ g) * (LINES @ d))

This is the transpose of multiplying two polynomials by their values at six points. With columns and
channels the products become dots. Over both axes a quarter of the products would be left, but then
the sums take longer than the dots.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers.matmul import kernel_gradient, matmul

POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Where polynomials are evaluated, infinity apart.

In float32 they round 2.2 times as coarsely (root mean square) as dots of all products, the paper's
points 0, +-1, +-2 3.3 times; XLA's own convolution, on CPUs, 1.1 to 4.3 times.
"""

STRIDE, REACH = 4, 6
"""Lines of results that are computed at once, and lines of the picture that they come from."""


def _at_points(size: int) -> np.ndarray:
    """Returns the matrix `[points, size]` of values of a polynomial, given its coefficients."""
    infinity = np.eye(size)[-1:]
    return np.concatenate([np.vander(POINTS, size, increasing=True), infinity])


OUTPUTS, TAPS = _at_points(STRIDE).T, _at_points(3)
# Rounded, so that zeros are exact and left out of sums.
LINES = np.round(np.linalg.inv(_at_points(REACH)).T, 14)


def convolve(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Correlates pictures with a 3x3 kernel, zeros around them, `[batch, height, width, out]`.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      precision: see `jaxlabs.layers.matmul`.
    """
    lines = [_three_columns(each) for each in _combine(LINES, _tiles(x, REACH, margin=1))]
    taps = [each.reshape(-1, kernel.shape[-1]) for each in _combine(TAPS, kernel)]
    products = [matmul(*pair, precision) for pair in zip(lines, taps, strict=True)]
    return split_microbatches(_combine(OUTPUTS, products), x.shape[1])


def gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, precision: str = "default"
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `x` and of `kernel`, given that of `convolve`, step by step back.

    Args:
      x: [batch, height, width, in].
      kernel: [3, 3, in, out].
      gradient: [batch, height, width, out].
      precision: see `jaxlabs.layers.matmul`.
    """
    of_products = _combine(OUTPUTS.T, _tiles(gradient, STRIDE, margin=1))
    of_products = [_three_columns(each) for each in of_products]
    # A column of taps has met the gradient of the opposite neighbor.
    turned = jnp.flip(kernel, 1).swapaxes(2, 3)
    taps = [each.reshape(-1, x.shape[-1]) for each in _combine(TAPS, turned)]
    of_lines = [matmul(*pair, precision) for pair in zip(of_products, taps, strict=True)]
    of_x = _add_overlaps(_combine(LINES.T, of_lines), x.shape[1])

    lines = _combine(LINES, _tiles(x, REACH, margin=0))
    pairs = zip(lines, of_products, strict=True)
    of_taps = [kernel_gradient(*pair, precision) for pair in pairs]
    of_kernel = jnp.stack(_combine(TAPS.T, of_taps))
    of_kernel = of_kernel.reshape(3, x.shape[-1], 3, gradient.shape[-1])
    of_kernel = jnp.flip(of_kernel, 2).swapaxes(1, 2)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _tiles(x: jax.Array, count: int, margin: int) -> list[jax.Array]:
    """Returns every fourth line from a first one on, for `count` first ones in a row.

    Args:
      x: [batch, height, width, channels]; lines beyond its edges are zeros.
      count: STRIDE, for lines 0, 4, 8, ... to 3, 7, 11, ..., or REACH, for one more on either side:
        -1, 3, 7, ... to 4, 8, 12, ...
      margin: columns of zeros on either side.

    Returns:
      `count` times [batch, height / 4 rounded up, width + 2 * margin, channels].
    """
    height, tiles, before = x.shape[1], -(-x.shape[1] // STRIDE), (count - STRIDE) // 2
    last = STRIDE * (tiles - 1)
    after = last + count - before - height
    padded = jnp.pad(x, ((0, 0), (before, after), (margin, margin), (0, 0)))
    return [lax.slice_in_dim(padded, i, i + last + 1, STRIDE, axis=1) for i in range(count)]


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns the sums of `parts` that the rows of `matrix` weigh."""

    def weigh(row: np.ndarray) -> jax.Array:
        terms = [float(w) * part for w, part in zip(row, parts, strict=True) if w]
        return sum(terms[1:], start=terms[0])

    return [weigh(row) for row in matrix]


def _three_columns(padded: jax.Array) -> jax.Array:
    """Puts every pixel's column between its neighbors, `[batch, lines, width, 3 * channels]`.

    Args:
      padded: [batch, lines, width + 2, channels].
    """
    batch, lines, width, channels = padded.shape
    three = [padded[:, :, column : column + width - 2] for column in range(3)]
    return jnp.stack(three, axis=3).reshape(batch, lines, width - 2, 3 * channels)


def split_microbatches(lines: Sequence[jax.Array], height: int) -> jax.Array:
    """Undoes `_tiles` for STRIDE lines, `[batch, height, width, channels]`."""
    batch, tiles, width, channels = lines[0].shape
    joined = jnp.stack(lines, axis=2).reshape(batch, STRIDE * tiles, width, channels)
    return joined[:, :height]


def _add_overlaps(lines: Sequence[jax.Array], height: int) -> jax.Array:
    """The gradient of `_tiles` for REACH lines: what met a line twice is added."""

    def move(x: jax.Array, tiles: int) -> jax.Array:
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (tiles, -tiles, 0), *[(0, 0, 0)] * 2])

    above, *own, below = lines
    own[0] += move(below, 1)
    own[-1] += move(above, -1)
    return split_microbatches(own, height)
