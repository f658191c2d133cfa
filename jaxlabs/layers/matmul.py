"""Matrix products of all layers, in a given precision."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.cpu.matmul import bf16_einsum, bf16_matmul, with_transposed_gradient

PRECISIONS = ("highest", "default", "bfloat16")
"""`highest` is strict float32, `default` the platform's choice, `bfloat16` rounds the inputs and
sums in float32 (lax's BF16_BF16_F32)."""

MIN_ROUNDED = 64
"""Rows from which `bfloat16` rounds both operands of `einsum`. With fewer rows, rounding the right
operand takes as long on two CPU cores as it saves; with a single one, in decoding, far longer."""


def lax_precision(precision: str) -> lax.Precision | None:
    """Returns the `lax` precision of an operation without a bfloat16 form.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return lax.Precision.HIGHEST if precision == "highest" else None


def matmul(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Returns `x [..., in]` times `kernel [in, out]`, `[..., out]`, in the wider of both dtypes."""
    rows = x.reshape(-1, x.shape[-1])
    if precision == "bfloat16":
        dtype = jnp.promote_types(x.dtype, kernel.dtype)
        product = bf16_matmul(rows.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    else:
        kernel = with_transposed_gradient(kernel)
        product = jnp.dot(rows, kernel, precision=lax_precision(precision))
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


@functools.cache
def dot_general(precision: str) -> Callable[..., jax.Array]:
    """Returns `matmul` as the `dot_general` of `nn.Dense`; equal layers have the same one."""

    def multiply(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any):
        return matmul(x, kernel, precision)

    return multiply


def einsum(
    formula: str, left: jax.Array, right: jax.Array, precision: str = "default"
) -> jax.Array:
    """Returns `jnp.einsum(formula, left, right)` of two activations, such as queries and keys.

    With fewer than MIN_ROUNDED rows `[..., rows, columns]` of the left operand `bfloat16` is the
    platform's default; with more it has no forward-mode differentiation, and the formula is that of
    `bf16_einsum`.
    """
    if precision != "bfloat16" or left.shape[-2] < MIN_ROUNDED:
        right = with_transposed_gradient(right)
        return jnp.einsum(formula, left, right, precision=lax_precision(precision))
    dtype = jnp.promote_types(left.dtype, right.dtype)
    return bf16_einsum(formula, left.astype(jnp.float32), right.astype(jnp.float32)).astype(dtype)
