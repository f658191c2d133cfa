"""Initializers of Transformers, and those of PyTorch."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = nn.initializers.Initializer

INITS = ("gpt2", "pytorch")

STDDEV = 0.02
"""Standard deviation of GPT-2's embeddings and kernels."""

FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's for linear layers and convolutions: uniform within +-1 / sqrt(fan_in)."""


def uniform_init(limit: float) -> Initializer:
    """Returns the initializer that samples uniformly from +-`limit`; zeros where it is 0."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init if limit else nn.initializers.zeros_init()


class TransformerInitializers(NamedTuple):
    """Initializers of a Transformer; the defaults are linen's."""

    embedding: Initializer = nn.initializers.normal(STDDEV)  #: token and position embeddings
    #: kernels that do not write to the residual stream
    kernel: Initializer = nn.initializers.lecun_normal()
    #: kernels that write to the residual stream
    residual: Initializer = nn.initializers.lecun_normal()
    bias_scale: float = 0.0  #: biases are uniform within +-`bias_scale / sqrt(fan_in)`

    def bias(self, fan_in: int) -> Initializer:
        """Returns the initializer of the bias of a layer with `fan_in` inputs."""
        return uniform_init(self.bias_scale * fan_in**-0.5)

    def dense(self, fan_in: int) -> dict[str, Initializer]:
        """Returns the options of an `nn.Dense` that does not write to the residual stream."""
        return {"kernel_init": self.kernel, "bias_init": self.bias(fan_in)}


LINEN = TransformerInitializers()
PYTORCH = TransformerInitializers(
    nn.initializers.normal(1.0), FAN_IN_UNIFORM, FAN_IN_UNIFORM, bias_scale=1.0
)


def transformer_initializers(
    init: str, num_layers: int, *, zero_residual: bool
) -> TransformerInitializers:
    """Returns GPT-2's initializers (Radford et al. 2019) or PyTorch's defaults, see INITS.

    There are `num_layers` blocks. With `zero_residual` the kernels that write to the residual
    stream start at zero.
    """
    normal = nn.initializers.normal
    # Each block writes there twice: 2 * num_layers projections add up, so each is scaled down.
    residual = normal(STDDEV / (2 * num_layers) ** 0.5)
    gpt2 = TransformerInitializers(normal(STDDEV), normal(STDDEV), residual)
    chosen = PYTORCH if init == "pytorch" else gpt2
    return chosen._replace(residual=nn.initializers.zeros_init()) if zero_residual else chosen
