"""Convolutions of pictures `[batch, height, width, channels]`, and the blocks of a U-Net."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.conv3x3 import conv3x3
from jaxlabs.layers.initializers import FAN_IN_UNIFORM
from jaxlabs.layers.matmul import Dense, Initializer, within

EPSILON = 1e-5


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
        kernel = self.param(
            "kernel", self.kernel_init, (3, 3, x.shape[-1], self.features), jnp.float32
        )
        bias_init = within((9 * x.shape[-1]) ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel)
        return conv3x3(x, kernel, self.precision) + bias[None, None, None, :]


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
        return Dense(self.features, True, FAN_IN_UNIFORM, self.precision, bias_init_scale=1.0)

    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]`.

        Args:
          x: [batch, height, width, channels].
          time: [batch, time_embed_dim] embedding of each picture's time.
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
    # A dot, since XLA on CPUs fuses sums of neighbors with all that x comes from, computed anew
    # for each; a dot for every example, since jax.image.resize transposes large arrays for its own.
    batch, size, _ = x.shape
    weights = jax.image.resize(jnp.eye(size, dtype=x.dtype), (2 * size, size), "bilinear")
    weights = jnp.broadcast_to(weights, (batch, 2 * size, size))
    return jnp.matmul(weights, x, precision=lax.Precision.HIGHEST)
