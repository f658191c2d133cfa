"""A convolution over a few neighbours in time, so that attention need not look for them."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class ShortConvolution(nn.Module):
    """Adds to every position a sum of the latest positions, weighted channel by channel.

        y[t] = x[t] + sum over i < size of kernel[i] * x[t - i]

    So et al. 2021 (Primer) have such convolutions after the projections of attention; Allen-Zhu
    2025 (Canon layers, of which these are A and C) has them, with this residual, before attention
    and before feed-forward. The kernel starts at zero, so that a model starts as it would without;
    its first row is the position's own, where libraries have that last. It is a sum of shifted
    arrays, since XLA's depthwise convolution is far slower on CPUs.

    Attributes:
      size: positions that one sees, its own included.
    """

    size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, before: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns `y [batch, time, width]`, and what stands before the positions that follow.

        Args:
          x: [batch, time, width].
          before: [batch, size - 1, width] the positions before these; None or zeros: none.
        """
        batch, time, width = x.shape
        if before is None:
            before = jnp.zeros((batch, self.size - 1, width), x.dtype)
        # Three axes, those of a depthwise kernel: Muon, which goes by their number, is not for it.
        kernel = self.param("kernel", nn.initializers.zeros_init(), (self.size, 1, width))
        text = jnp.concatenate([before, x], axis=1)
        for back in range(self.size):
            first = self.size - 1 - back
            # Spread in one step: from [1, 1, width] the gradient is summed over time alone first,
            # which takes XLA sixty times as long on CPUs where the batch is 1 (jax 0.10).
            taps = jnp.broadcast_to(kernel[back, 0], x.shape)
            x = x + taps * text[:, first : first + time]
        return x, text[:, time:]
