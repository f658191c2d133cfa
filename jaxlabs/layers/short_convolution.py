"""A short causal depthwise convolution over time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def short_convolution(
    x: jax.Array,
    kernel: jax.Array,
    conv_state: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns `y[t] = x[t] + sum over i < size of kernel[i] * x[t - i]`, and the new conv state.

    So et al. 2021 (Primer) place such convolutions after the projections of attention; Allen-Zhu
    2025 (Canon layers A and C) places them, with this residual, before attention and before the
    feed-forward network. Not `nn.Conv`: XLA's depthwise convolution is far slower on CPUs.

    Args:
      x: [batch, time, features].
      kernel: [size, 1, features]; row i multiplies `x[t - i]`, so it is flipped against libraries.
      conv_state: [batch, size - 1, features], the previous inputs; None or zeros: none.
      segments: [batch, time] integers, see `layers.masks.AttentionMask`; the sum leaves out `x[t -
        i]` of another segment than that of `x[t]`. Not with a `conv_state`. None: one segment.
    """
    batch, time, features = x.shape
    size = len(kernel)
    if conv_state is None:
        conv_state = jnp.zeros((batch, size - 1, features), x.dtype)
    inputs, y = jnp.concatenate([conv_state, x], axis=1), x
    for lag in range(size):
        start = size - 1 - lag
        # Broadcast in one step: from [1, 1, features] the gradient is first summed over time alone,
        # which takes XLA 60 times as long on CPUs where the batch is 1 (jax 0.10).
        taps = jnp.broadcast_to(kernel[lag, 0], x.shape)
        lagged = inputs[:, start : start + time]
        if segments is not None and lag:
            same = jnp.pad(segments[:, lag:] == segments[:, :-lag], ((0, 0), (lag, 0)))
            lagged = jnp.where(same[:, :time, None], lagged, 0)
        y = y + taps * lagged
    return y, inputs[:, time:]


class ShortConvolution(nn.Module):
    """`short_convolution` with a kernel of `size` initialized at zero: initially the identity."""

    size: int
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        conv_state: jax.Array | None = None,
        segments: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """See `short_convolution`."""
        # Three axes, as a depthwise kernel has: optimizers treat kernels with two axes as matrices.
        shape = (self.size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.zeros_init(), shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return short_convolution(x, kernel, conv_state, segments)
