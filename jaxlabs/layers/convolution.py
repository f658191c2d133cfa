"""Convolutions over images `[batch, height, width, channels]`, and the blocks of a U-Net."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.cpu.conv3x3 import conv3x3
from jaxlabs.layers.initializers import FAN_IN_UNIFORM
from jaxlabs.layers.matmul import Dense, Initializer, uniform_init

EPSILON = 1e-5


class Conv3x3(nn.Module):
    """A 3x3 convolution with a bias and zero padding, initialized as PyTorch's.

    Attributes:
      features: output channels.
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
        bias_init = uniform_init((9 * x.shape[-1]) ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel)
        return conv3x3(x, kernel, self.precision) + bias[None, None, None, :]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions conditioned on the timestep, and a shortcut around them.

        h = silu(norm(conv(x)))
        h = h + project(time_emb)
        h = silu(norm(conv(h)))
        y = h + shortcut(x)            a 1x1 convolution where the number of channels changes

    Attributes:
      features: output channels.
      groups: number of groups of the group norms (Wu and He 2018); divides the features.
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

    def __call__(self, x: jax.Array, time_emb: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]`.

        Args:
          x: [batch, height, width, channels].
          time_emb: [batch, time_embed_dim] embedding of each image's timestep.
        """
        h = nn.silu(self.first_norm(self.first(x)))
        h = h + self.project(time_emb)[:, None, None, :]
        h = nn.silu(self.second_norm(self.second(h)))
        return h + (x if x.shape[-1] == self.features else self.shortcut(x))


@jax.custom_vjp
def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Returns the maxima over 2x2 windows, `[batch, height / 2, width / 2, channels]`.

    The gradient goes to the maximum of each window; of equal ones to the first, as in PyTorch.

    Raises:
      ValueError: height or width is odd.
    """
    return _pool(x)[0]


def _pool(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maxima and the argmax in each window, in 0..3."""
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"{height}x{width}: not accepted; both must be even")
    windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    corners = [windows[:, :, row, :, column] for row in range(2) for column in range(2)]
    largest, argmax = corners[0], jnp.zeros(corners[0].shape, jnp.int8)
    for index, other in enumerate(corners[1:], start=1):
        argmax = jnp.where(other > largest, jnp.int8(index), argmax)
        largest = jnp.maximum(largest, other)
    return largest, argmax


def _pool_backward(argmax: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # By index, since XLA may recompute a maximum with other rounding, so that it equals none of the
    # four. In place, since reassembling strided slices is slow on CPUs.
    batch, height, width, channels = gradient.shape
    argmax, gradient = (side[:, :, None, :, None, :] for side in (argmax, gradient))
    indices = jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
    gradient = jnp.where(argmax == indices, gradient, 0)
    return (gradient.reshape(batch, 2 * height, 2 * width, channels),)


max_pool_2x2.defvjp(_pool, _pool_backward)


def upsample_2x_bilinear(x: jax.Array) -> jax.Array:
    """Returns images upsampled by a factor of 2, `[batch, 2 * height, 2 * width, channels]`.

    Bilinear, as `torch.nn.functional.interpolate(..., align_corners=False)`: per axis an output
    pixel is 3/4 of the nearest input pixel and 1/4 of the next one; edges are repeated.
    """
    x = jnp.asarray(x)
    batch, height, width, channels = x.shape
    x = _upsample_axis(x.reshape(batch, height, width * channels))
    x = _upsample_axis(x.reshape(batch * 2 * height, width, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def _upsample_axis(x: jax.Array) -> jax.Array:
    """Doubles the middle axis of `x [batch, size, channels]`."""
    # A matmul, since XLA on CPUs fuses a sum of neighbors with the producer of x and recomputes x
    # for each. One matmul per example, since jax.image.resize transposes large arrays for its own.
    batch, size, _ = x.shape
    weights = jax.image.resize(jnp.eye(size, dtype=x.dtype), (2 * size, size), "bilinear")
    weights = jnp.broadcast_to(weights, (batch, 2 * size, size))
    return jnp.matmul(weights, x, precision=lax.Precision.HIGHEST)
