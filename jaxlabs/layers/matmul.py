"""Matrix products of all layers, in a given precision."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.matmul import bf16_einsum, bf16_matmul, with_transposed_gradient
from jaxlabs.layers.remat import keep_linear

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
    """Returns `x [..., in]` times `kernel [in, out]`, `[..., out]`, in the wider of both dtypes.

    Two bfloat16 operands are multiplied alike in every precision: they need no rounding.
    """
    rows = x.reshape(-1, x.shape[-1])
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    if dtype == jnp.bfloat16:
        product = dispatch.by_platform(
            rows,
            kernel,
            cpu=_bf16_matmul_on_cpu,
            default=functools.partial(jnp.dot, precision=lax_precision(precision)),
        )
    elif precision == "bfloat16":
        product = bf16_matmul(rows.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    else:
        kernel = with_transposed_gradient(kernel)
        product = jnp.dot(rows, kernel, precision=lax_precision(precision))
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def _bf16_matmul_on_cpu(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the product of bfloat16 operands, in half of the time of XLA's own form."""
    wide = rows.astype(jnp.float32), kernel.astype(jnp.float32)  # the gradients are float32
    return bf16_matmul(*wide).astype(jnp.bfloat16)


@functools.cache
def dot_general(precision: str) -> Callable[..., jax.Array]:
    """Returns `matmul` as the `dot_general` of `nn.Dense`; equal layers have the same one."""

    def multiply(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any):
        return keep_linear(matmul(x, kernel, precision))

    return multiply


def einsum(
    formula: str,
    left: jax.Array,
    right: jax.Array,
    precision: str = "default",
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Returns `jnp.einsum(formula, left, right)` of two activations, such as queries and keys.

    The result is in `dtype`; None: the wider of both. In float32 it is the unrounded sum of
    products, also of bfloat16 operands.

    With fewer than MIN_ROUNDED rows `[..., rows, columns]` of the left operand `bfloat16` is the
    platform's default; with more it has no forward-mode differentiation, and the formula is that of
    `bf16_einsum`.
    """
    operands = jnp.promote_types(left.dtype, right.dtype)
    dtype = operands if dtype is None else dtype
    strict = lax_precision(precision)

    def plain(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.einsum(formula, left, right, precision=strict)

    def from_bf16(left: jax.Array, right: jax.Array) -> jax.Array:
        wide = left.astype(jnp.float32), right.astype(jnp.float32)  # the gradients are float32
        return bf16_einsum(formula, *wide).astype(dtype)

    if operands == jnp.bfloat16 == dtype:
        return dispatch.by_platform(left, right, cpu=from_bf16, default=plain)
    if operands == jnp.bfloat16 or (precision == "bfloat16" and left.shape[-2] >= MIN_ROUNDED):
        return from_bf16(left, right)
    return plain(left, with_transposed_gradient(right)).astype(dtype)
