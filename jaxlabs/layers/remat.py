"""Rematerialization: what the backward pass recomputes instead of reading it from memory.

Chen et al. 2016 ("Training Deep Nets with Sublinear Memory Cost"). The unit is a block of a
network. Values, gradients and the paths of parameters are those without it.
"""

from typing import TypeVar

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

REMAT = ("none", "blocks", "full")
"""`blocks` keeps the input of each block and the results of its matmuls and convolutions with
kernels, and recomputes the rest: norms, activations, dropout, attention. `full` keeps the input
alone."""

KEPT = "linear"

Block = TypeVar("Block", bound=type[nn.Module])


def keep_linear(x: jax.Array) -> jax.Array:
    """Marks the result of a matmul or convolution with a kernel, which `blocks` keeps."""
    return checkpoint_name(x, KEPT)


def rematerialize(block: Block, remat: str) -> Block:
    """Returns the class of a block whose `__call__` keeps what `remat`, one of REMAT, says.

    Raises:
      ValueError: `remat` is not one of REMAT.
    """
    if remat not in REMAT:
        raise ValueError(f"remat: {remat!r} is not one of {', '.join(REMAT)}")
    if remat == "none":
        return block
    policies = jax.checkpoint_policies
    kept = {"blocks": policies.save_only_these_names(KEPT), "full": policies.nothing_saveable}
    return nn.remat(block, policy=kept[remat])
