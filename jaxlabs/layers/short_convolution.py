"""A convolution over a few neighbors in time, so that attention need not look for them."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def short_convolution(
    x: jax.Array, kernel: jax.Array, before: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Adds to every position a sum of the latest positions, weighted channel by channel.

        y[t] = x[t] + sum over i < size of kernel[i] * x[t - i]

    So et al. 2021 (Primer) have such convolutions after the projections of attention; Allen-Zhu
    2025 (Canon layers, of which these are A and C) has them, with this residual, before attention
    and before feed-forward. It is a sum of shifted arrays, since XLA's depthwise convolution is far
    slower on CPUs.

    Args:
      x: [batch, time, width].
      kernel: [size, 1, width]; its first row is the position's own, where libraries have that last.
      before: [batch, size - 1, width] the positions before these; None or zeros: none.

    Returns:
      `y [batch, time, width]`, and what stands before the positions that follow.
    """
    batch, time, width = x.shape
    size = len(kernel)
    if before is None:
        before = jnp.zeros((batch, size - 1, width), x.dtype)
    text, y = jnp.concatenate([before, x], axis=1), x
    for back in range(size):
        first = size - 1 - back
        # Spread in one step: from [1, 1, width] the gradient is summed over time alone first, which
        # takes XLA sixty times as long on CPUs where the batch is 1 (jax 0.10).
        taps = jnp.broadcast_to(kernel[back, 0], x.shape)
        y = y + taps * text[:, first : first + time]
    return y, text[:, time:]


class ShortConvolution(nn.Module):
    """`short_convolution` with its kernel, which starts at zero: a model starts as without it.

    Attributes:
      size: positions that one sees, its own included.
    """

    size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, before: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """See `short_convolution`."""
        # Three axes, those of a depthwise kernel: optimizers take no kernel of three for a matrix.
        shape = (self.size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.zeros_init(), shape, jnp.float32)
        return short_convolution(x, kernel, before)
