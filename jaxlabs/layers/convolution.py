"""Convolutions over images `[batch, height, width, channels]`, and the blocks of a U-Net."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxlabs.layers.cpu import conv3x3 as cpu_conv3x3
from jaxlabs.layers.cpu import dispatch, resize
from jaxlabs.layers.initializers import FAN_IN_UNIFORM, PYTORCH, Initializer, uniform_init
from jaxlabs.layers.matmul import dot_general, lax_precision
from jaxlabs.layers.remat import keep_linear

EPSILON = 1e-5


def conv3x3(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Correlates images with a 3x3 kernel under zero padding, `[batch, height, width, out]`.

    The images are `x [batch, height, width, in]`, the kernel is `[3, 3, in, out]` in the dtype of
    x; see `jaxlabs.layers.matmul` for the precision.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax_precision(precision),
    )
    implementation = dispatch.conv3x3_implementation(x.shape, kernel.shape, x.dtype, precision)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return cpu_conv3x3.conv3x3(x, kernel, precision, implementation)

    return dispatch.by_platform(x, kernel, cpu=on_cpu, default=convolve)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Returns the maxima over 2x2 windows, `[batch, height / 2, width / 2, channels]`.

    The gradient goes to the maximum of each window; of equal ones to the first, as in PyTorch.

    Raises:
      ValueError: height or width is odd.
    """
    _, height, width, _ = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"{height}x{width}: not accepted; both must be even")
    pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    return dispatch.by_platform(x, cpu=resize.max_pool_2x2, default=pool)


def upsample_2x_bilinear(x: jax.Array) -> jax.Array:
    """Returns images upsampled by a factor of 2, `[batch, 2 * height, 2 * width, channels]`.

    Bilinear, as `torch.nn.functional.interpolate(..., align_corners=False)`: per axis an output
    pixel is 3/4 of the nearest input pixel and 1/4 of the next one; edges are repeated.
    """
    x = jnp.asarray(x)
    batch, height, width, channels = x.shape
    shape = (batch, 2 * height, 2 * width, channels)
    double = functools.partial(
        jax.image.resize, shape=shape, method="bilinear", precision=lax.Precision.HIGHEST
    )
    return dispatch.by_platform(x, cpu=resize.upsample_2x_bilinear, default=double)


class Conv3x3(nn.Module):
    """A 3x3 convolution with a bias and zero padding, initialized as PyTorch's.

    Not `nn.Conv`, whose initializer of the bias does not see the number of input channels.
    """

    features: int  #: output channels
    kernel_init: Initializer = FAN_IN_UNIFORM  #: initializer of the kernel
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]` for `x [batch, height, width, channels]`."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias_init = uniform_init((9 * x.shape[-1]) ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return keep_linear(conv3x3(x, kernel, self.precision)) + bias[None, None, None, :]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions conditioned on the timestep, and a shortcut around them.

        h = silu(norm(conv(x)))
        h = h + project(time_emb)
        h = silu(norm(conv(h)))
        y = h + shortcut(x)

    The shortcut is a 1x1 convolution where the number of channels changes, else the identity.
    """

    features: int  #: output channels
    groups: int = 8  #: number of groups of the group norms (Wu and He 2018); divides the features
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    @nn.compact
    def __call__(self, x: jax.Array, time_emb: jax.Array) -> jax.Array:
        """Returns `[batch, height, width, features]` for `x [batch, height, width, channels]`.

        The embeddings of the images' timesteps are `time_emb [batch, time_embed_dim]`.
        """
        options = {"precision": self.precision, "dtype": self.dtype}
        convolve = functools.partial(Conv3x3, self.features, **options)
        # One pass: the means of activations are of the order of their standard deviations.
        norm = functools.partial(nn.GroupNorm, self.groups, epsilon=EPSILON, dtype=self.dtype)

        def dense(x: jax.Array, name: str) -> jax.Array:
            return nn.Dense(
                self.features,
                dtype=self.dtype,
                dot_general=dot_general(self.precision),
                name=name,
                **PYTORCH.dense(x.shape[-1]),
            )(x)

        h = nn.silu(norm(name="first_norm")(convolve(name="first")(x)))
        h = h + dense(time_emb, "project")[:, None, None, :]
        h = nn.silu(norm(name="second_norm")(convolve(name="second")(h)))
        return h + (x if x.shape[-1] == self.features else dense(x, "shortcut"))
