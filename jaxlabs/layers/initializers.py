"""Initializers of the layers of a Transformer."""

from typing import NamedTuple

import flax.linen as nn

from jaxlabs.layers.matmul import Initializer

INITS = ("gpt2", "pytorch")
"""Schemes of `transformer_initializers`."""

STDDEV = 0.02
"""Standard deviation of GPT-2's embeddings and kernels."""

FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for linear layers and convolutions: uniform within +-1 / sqrt(fan_in), whose
variance is 1 / (3 fan_in)."""


class TransformerInitializers(NamedTuple):
    """Initializers of a Transformer language model.

    Attributes:
      embedding: token and position embeddings.
      kernel: kernels that do not write to the residual stream.
      residual: kernels that write to the residual stream.
      bias_init_scale: see `jaxlabs.layers.feed_forward.FeedForward`.
    """

    embedding: Initializer
    kernel: Initializer
    residual: Initializer
    bias_init_scale: float


def transformer_initializers(
    init: str, num_layers: int, *, zero_residual: bool
) -> TransformerInitializers:
    """Returns GPT-2's initializers (Radford et al. 2019) or PyTorch's defaults.

    Args:
      init: one of INITS.
      num_layers: number of blocks, each of which writes to the residual stream twice.
      zero_residual: whether the kernels that write there start at zero.
    """
    if init == "pytorch":
        kernel = residual = FAN_IN_UNIFORM
        embedding, bias_init_scale = nn.initializers.normal(1.0), 1.0
    else:
        embedding = kernel = nn.initializers.normal(STDDEV)
        # 2 * num_layers residual projections add up, so each is scaled down by the root of that.
        residual = nn.initializers.normal(STDDEV / (2 * num_layers) ** 0.5)
        bias_init_scale = 0.0
    if zero_residual:
        residual = nn.initializers.zeros_init()
    return TransformerInitializers(embedding, kernel, residual, bias_init_scale)
