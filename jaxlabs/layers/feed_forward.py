"""The Transformer's feed-forward network and its activations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxlabs.layers.initializers import LINEN, TransformerInitializers
from jaxlabs.layers.matmul import dot_general


def squared_relu(x: jax.Array) -> jax.Array:
    """Returns `max(x, 0)^2` (So et al. 2021)."""
    return jnp.square(jax.nn.relu(x))


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    # GPT-2's, the approximation of Hendrycks and Gimpel 2016.
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "squared_relu": squared_relu,
}


class FeedForward(nn.Module):
    """`activation(x @ up_proj + bias) @ down_proj + bias` at every position.

    Raises:
      ValueError: `activation` is not one of ACTIVATIONS.
    """

    mlp_dim: int  #: hidden size
    activation: str = "relu"  #: one of ACTIVATIONS
    use_bias: bool = True  #: whether both layers have a bias
    #: of both layers; the second one writes to the residual stream
    initializers: TransformerInitializers = LINEN
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[..., features]` for `x [..., features]`."""
        if self.activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: {self.activation!r} is not one of {names}")
        init = self.initializers
        dense = functools.partial(
            nn.Dense,
            use_bias=self.use_bias,
            dtype=self.dtype,
            dot_general=dot_general(self.precision),
        )
        up_proj = dense(self.mlp_dim, name="up_proj", **init.dense(x.shape[-1]))
        options = {"kernel_init": init.residual, "bias_init": init.bias(self.mlp_dim)}
        down_proj = dense(x.shape[-1], name="down_proj", **options)
        return down_proj(ACTIVATIONS[self.activation](up_proj(x)))
