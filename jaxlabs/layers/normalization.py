"""Normalisation of the last axis; statistics are taken in at least float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp

NORMS = ("layernorm", "rmsnorm")
EPSILON = 1e-5


def build_norm(kind: str, use_bias: bool = True) -> nn.Module:
    """Returns a module that normalises `x [..., width]` over its last axis.

    Args:
      kind: "layernorm" (Ba et al. 2016: linen's own, with `scale [width]`) or "rmsnorm" (without
        parameters).
      use_bias: whether the layer norm has a `bias [width]` as well.

    Raises:
      ValueError: `kind` is not one of NORMS.
    """
    if kind not in NORMS:
        raise ValueError(f"norm: {kind!r} is not one of {', '.join(NORMS)}")
    if kind == "rmsnorm":
        return RMSNorm()
    # The two-pass variance: the fast one cancels where the mean is large against the deviation.
    return nn.LayerNorm(epsilon=EPSILON, use_bias=use_bias, use_fast_variance=False)


def rms_norm(x: jax.Array) -> jax.Array:
    """Divides `x [..., width]` by its root mean square (Zhang and Sennrich 2019), no gain."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(mean_square + EPSILON)).astype(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` as a module."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return rms_norm(x)
