"""How the layers of a Transformer start."""

from typing import NamedTuple

import flax.linen as nn

from jaxlabs.layers.matmul import Initializer

INITS = ("gpt2", "pytorch")
"""Names of what `transformer_initializers` makes."""

STDDEV = 0.02
"""GPT-2's, of embeddings and kernels."""

FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for linear layers and convolutions: uniform within +-1 / sqrt(fan_in), whose
variance is a third of 1 / fan_in."""


class TransformerInitializers(NamedTuple):
    """How the parts of a Transformer language model start.

    Attributes:
      embedding: vectors of tokens and positions.
      kernel: matrices.
      residual: matrices that write to the residual.
      bias_init_scale: see `jaxlabs.layers.matmul.Dense`.
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
      layers: blocks, each of which writes to the residual twice.
      zero_residual: whether what is written there starts at zero.
    """
    if init == "pytorch":
        kernel = residual = FAN_IN_UNIFORM
        embedding, bias_init_scale = nn.initializers.normal(1.0), 1.0
    else:
        embedding = kernel = nn.initializers.normal(STDDEV)
        # 2 * layers of the residual projections add up, so each starts smaller by that root.
        residual = nn.initializers.normal(STDDEV / (2 * num_layers) ** 0.5)
        bias_init_scale = 0.0
    if zero_residual:
        residual = nn.initializers.zeros_init()
    return TransformerInitializers(embedding, kernel, residual, bias_init_scale)
