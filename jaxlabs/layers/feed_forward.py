"""The Transformer's feed-forward network and its activations."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers.matmul import Initializer, dot_general, uniform_init


def squared_relu(x: jax.Array) -> jax.Array:
    """Returns `max(x, 0)^2` (So et al. 2021)."""
    return jnp.square(jax.nn.relu(x))


def gelu(x: jax.Array) -> jax.Array:
    """Returns `x` times the standard normal CDF of `x` (Hendrycks and Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"relu": jax.nn.relu, "gelu": gelu, "squared_relu": squared_relu}


class FeedForward(nn.Module):
    """`activation(x @ up_proj + bias) @ down_proj + bias` at every position.

    Attributes:
      mlp_dim: hidden size.
      activation: one of ACTIVATIONS.
      use_bias: whether both layers have a bias.
      kernel_init: initializer of the first kernel.
      out_init: initializer of the second kernel.
      precision: see `jaxlabs.layers.matmul`.
      bias_init_scale: biases are initialized uniformly within +-`bias_init_scale / sqrt(fan_in)`.

    Raises:
      ValueError: `activation` is not one of ACTIVATIONS.
    """

    mlp_dim: int
    activation: str = "relu"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_init: Initializer = nn.initializers.lecun_normal()
    precision: str = "default"
    bias_init_scale: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[..., features]` for `x [..., features]`."""
        if self.activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: {self.activation!r} is not one of {names}")
        up_proj = self._dense("up_proj", x.shape[-1], self.mlp_dim, self.kernel_init)
        down_proj = self._dense("down_proj", self.mlp_dim, x.shape[-1], self.out_init)
        return down_proj(ACTIVATIONS[self.activation](up_proj(x)))

    def _dense(self, name: str, fan_in: int, features: int, kernel_init: Initializer) -> nn.Dense:
        return nn.Dense(
            features,
            use_bias=self.use_bias,
            kernel_init=kernel_init,
            bias_init=uniform_init(self.bias_init_scale * fan_in**-0.5),
            dot_general=dot_general(self.precision),
            name=name,
        )
