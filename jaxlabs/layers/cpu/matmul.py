"""Matmuls whose gradients, or whose bfloat16 operands, are implemented for CPUs.

A matmul that sums over the rows of both operands, as every kernel's gradient does, takes up to
three times as long where its result has more rows than columns. XLA undoes a plain transpose, so
the transposed product stands behind a barrier.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers.cpu.dispatch import barrier_on_cpu, by_platform

SUM_GROUP = 8
"""Rows of a group, where a sum over rows is computed as a sum over groups and rows."""

Axes = tuple[int, ...]


@jax.custom_jvp
def with_transposed_gradient(right: jax.Array) -> jax.Array:
    """Returns the right operand of a matmul; its gradient passes through `computed_transposed`.

    The operand is a kernel `[in, out]`, or keys or values `[..., key, head_dim]`.

    A custom JVP, since a custom VJP would rule out forward mode. The map of the tangent is linear
    and its own transpose, so it applies to the gradient too.
    """
    return right


@with_transposed_gradient.defjvp
def _with_transposed_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    (right,), (tangent,) = primals, tangents
    return with_transposed_gradient(right), computed_transposed(tangent)


def computed_transposed(product: jax.Array) -> jax.Array:
    """Returns `product [..., in, out]`, computed as `[..., out, in]` where that is faster on CPUs.

    XLA still undoes a transpose that the caller applies to a parameter.
    """
    if product.shape[-2] <= product.shape[-1]:
        return product
    return barrier_on_cpu(product.mT).mT


@jax.custom_vjp
def bf16_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x [rows, in]` times `kernel [in, out]` from bfloat16 inputs, summed in float32.

    A custom VJP, since autodiff would multiply the float32 gradient by bfloat16 operands, and no
    fast kernel takes mixed dtypes.
    """
    return _bf16_dot_general(x, kernel, ((1,), (0,)))


def _bf16_matmul_forward(x: jax.Array, kernel: jax.Array):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _bf16_dot_general(x, kernel, ((1,), (0,))), (x, kernel)


def _bf16_matmul_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, kernel = residuals
    gradient = gradient.astype(jnp.bfloat16)
    return _bf16_dot_general(gradient, kernel, ((1,), (1,))), bf16_kernel_gradient(x, gradient)


bf16_matmul.defvjp(_bf16_matmul_forward, _bf16_matmul_backward)


def kernel_gradient(x: jax.Array, gradient: jax.Array, precision: str) -> jax.Array:
    """Returns the kernel's gradient `[in, out]` for `x [..., in]` and `gradient [..., out]`.

    `precision` is one of `jaxlabs.layers.matmul.PRECISIONS`.
    """
    x, gradient = (side.reshape(-1, side.shape[-1]) for side in (x, gradient))
    dtype = jnp.promote_types(x.dtype, gradient.dtype)
    if precision == "bfloat16" or dtype == jnp.bfloat16:
        return bf16_kernel_gradient(x, gradient).astype(dtype)
    strict = lax.Precision.HIGHEST if precision == "highest" else None
    return computed_transposed(jnp.dot(x.T, gradient, precision=strict))


def bf16_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns `x [rows, in]` transposed times `gradient [rows, out]`, float32 `[in, out]`.

    A matmul that sums over the rows of both operands does not use a CPU's bfloat16 matrix units,
    and XLA folds an explicit transpose back into that form. Where the sum is over two axes, XLA
    transposes one operand itself and uses them; it should be the operand with fewer columns.
    """

    def grouped(x: jax.Array, gradient: jax.Array) -> jax.Array:
        if x.shape[1] > gradient.shape[1]:
            return grouped(gradient, x).T
        missing = -len(x) % SUM_GROUP
        operands = (jnp.pad(side, ((0, missing), (0, 0))) for side in (x, gradient))
        operands = (side.reshape(-1, SUM_GROUP, side.shape[1]) for side in operands)
        return _bf16_dot_general(*operands, ((0, 1), (0, 1)))

    def ungrouped(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return _bf16_dot_general(x, gradient, ((0,), (0,)))

    return by_platform(x, gradient, cpu=grouped, default=ungrouped)


def _bf16_dot_general(left: jax.Array, right: jax.Array, axes: tuple[Axes, Axes]) -> jax.Array:
    """Contracts `axes[0]` of `left` with `axes[1]` of `right` in bfloat16, summed in float32."""
    product = lax.dot_general(
        left.astype(jnp.bfloat16),
        right.astype(jnp.bfloat16),
        (axes, ((), ())),
        preferred_element_type=jnp.float32,
    )
    # XLA would fold a transpose of the product into a form without a fast kernel on CPUs.
    return barrier_on_cpu(product)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def bf16_einsum(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the einsum of operands that are rounded to bfloat16, summed in float32.

    The formula is explicit (`->`), and each axis occurs in at least two of the three terms, always
    with the same size.
    """
    return _bf16_einsum_forward(formula, left, right)[0]


def _bf16_einsum_forward(formula: str, left: jax.Array, right: jax.Array):
    left, right = _round_to_bf16(left), _round_to_bf16(right)
    return _bf16_einsum_product(formula, left, right), (left, right)


def _bf16_einsum_backward(formula: str, residuals: tuple[jax.Array, jax.Array], gradient):
    (left, right), gradient = residuals, _round_to_bf16(gradient)
    terms, product = formula.split("->")
    first, second = terms.split(",")
    left_gradient = _bf16_einsum_product(f"{product},{second}->{first}", gradient, right)
    # Computed transposed, as in `computed_transposed`.
    transposed = second[:-2] + second[-1] + second[-2]
    right_gradient = _bf16_einsum_product(f"{product},{first}->{transposed}", gradient, left).mT
    return left_gradient, right_gradient


bf16_einsum.defvjp(_bf16_einsum_forward, _bf16_einsum_backward)


def _bf16_einsum_product(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    product = jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)
    return barrier_on_cpu(product)


def _round_to_bf16(x: jax.Array) -> jax.Array:
    """Returns `x` in bfloat16, rounded once before a matmul and not again in each of its tiles."""
    return barrier_on_cpu(x.astype(jnp.bfloat16))
