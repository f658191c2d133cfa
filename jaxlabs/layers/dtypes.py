"""Mixed precision: what a layer computes in its `dtype`, and what stays float32.

The convention is linen's. Parameters are float32, and a layer casts them with its input to `dtype`:
bfloat16, or None for the wider dtype of both. So activations and the operands of matmuls are
bfloat16, while these are in at least float32: softmax, the statistics of norms, recurrent states,
lookups in embedding tables, whose gradients are sums over tokens, and all that leaves a network,
such as logits and latent codes.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def cast(x: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    """Returns `x` in the dtype of activations; None leaves it as it is."""
    return x if dtype is None else x.astype(dtype)


def at_least_float32(x: jax.Array) -> jax.Array:
    """Returns `x` in float32, or in its own dtype where that is wider."""
    x = jnp.asarray(x)  # without x64 an array of numpy in float64 is one in float32
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def output_precision(precision: str, dtype: DTypeLike | None) -> str:
    """Returns the matmul precision of a layer whose result stays float32.

    Such a layer has no `dtype`, so it gets a float32 kernel. In bfloat16 networks the precision
    `bfloat16` rounds the operands and neither the sums nor the result.
    """
    return precision if dtype is None else "bfloat16"
