"""Matrix products of all layers, in a given precision."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

PRECISIONS = ("highest", "default", "bfloat16")
"""`highest` is strict float32, `default` the platform's choice, `bfloat16` rounds the inputs and
sums in float32 (lax's BF16_BF16_F32)."""

SUM_GROUP = 8
"""Rows of a group, where a sum over rows is computed as a sum over groups and rows."""

MIN_ROUNDED = 64
"""Rows from which `bfloat16` rounds both operands of `einsum`. With fewer rows, rounding the right
operand takes as long on two CPU cores as it saves; with a single one, in decoding, far longer."""

Initializer = Callable[..., jax.Array]
Axes = tuple[int, ...]


def matmul(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Returns `x [..., in]` times `kernel [in, out]`, `[..., out]`, in the wider dtype of the two.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    rows = x.reshape(-1, x.shape[-1])
    if precision == "bfloat16":
        dtype = jnp.promote_types(x.dtype, kernel.dtype)
        product = _bf16_matmul(rows.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    else:
        product = jnp.dot(
            rows, _with_transposed_gradient(kernel), precision=lax_precision(precision)
        )
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def einsum(
    formula: str, left: jax.Array, right: jax.Array, precision: str = "default"
) -> jax.Array:
    """Returns `jnp.einsum(formula, left, right)` of two activations, such as queries and keys.

    With fewer than MIN_ROUNDED rows `[..., rows, columns]` of the left operand `bfloat16` is the
    platform's default; with more it has no forward-mode differentiation. The formula is explicit
    (`->`), and each axis occurs in at least two of the three terms, always with the same size.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision != "bfloat16" or left.shape[-2] < MIN_ROUNDED:
        right = _with_transposed_gradient(right)
        return jnp.einsum(formula, left, right, precision=lax_precision(precision))
    dtype = jnp.promote_types(left.dtype, right.dtype)
    return _bf16_einsum(formula, left.astype(jnp.float32), right.astype(jnp.float32)).astype(dtype)


def lax_precision(precision: str) -> lax.Precision | None:
    """Returns the `lax` precision of an operation that does not round its operands itself.

    `bfloat16` means the platform's default there.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return lax.Precision.HIGHEST if precision == "highest" else None


@jax.custom_jvp
def _with_transposed_gradient(right: jax.Array) -> jax.Array:
    """Returns the right operand of a matmul; its gradient passes through `_computed_transposed`.

    The operand is a kernel `[in, out]`, or keys or values `[..., key, head_dim]`.

    A custom JVP, since a custom VJP would rule out forward mode. The map of the tangent is linear
    and its own transpose, so it applies to the gradient too.
    """
    return right


@_with_transposed_gradient.defjvp
def _with_transposed_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    (right,), (tangent,) = primals, tangents
    return _with_transposed_gradient(right), _computed_transposed(tangent)


def _computed_transposed(product: jax.Array) -> jax.Array:
    """Returns `product [..., in, out]`, computed as `[..., out, in]` where that is faster on CPUs.

    A matmul that sums over the rows of both operands takes up to three times as long where its
    result has more rows than columns. XLA would undo a plain transpose; it still undoes one that
    the caller applies to a parameter.
    """
    if product.shape[-2] <= product.shape[-1]:
        return product
    return _barrier_on_cpu(product.mT).mT


def _barrier_on_cpu(x: jax.Array) -> jax.Array:
    """Returns `x`, on CPUs behind a barrier: XLA does not fuse it with its consumers."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=_identity)


def _identity(x: jax.Array) -> jax.Array:
    return x


@jax.custom_vjp
def _bf16_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
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
    return _bf16_dot_general(gradient, kernel, ((1,), (1,))), _bf16_kernel_gradient(x, gradient)


_bf16_matmul.defvjp(_bf16_matmul_forward, _bf16_matmul_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _bf16_einsum(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return _bf16_einsum_forward(formula, left, right)[0]


def _bf16_einsum_forward(formula: str, left: jax.Array, right: jax.Array):
    left, right = _round_to_bf16(left), _round_to_bf16(right)
    return _bf16_einsum_product(formula, left, right), (left, right)


def _bf16_einsum_backward(formula: str, residuals: tuple[jax.Array, jax.Array], gradient):
    (left, right), gradient = residuals, _round_to_bf16(gradient)
    terms, product = formula.split("->")
    first, second = terms.split(",")
    left_gradient = _bf16_einsum_product(f"{product},{second}->{first}", gradient, right)
    # Computed transposed: a sum over the rows of both operands takes longer with more rows than
    # columns.
    transposed = second[:-2] + second[-1] + second[-2]
    right_gradient = _bf16_einsum_product(f"{product},{first}->{transposed}", gradient, left).mT
    return left_gradient, right_gradient


_bf16_einsum.defvjp(_bf16_einsum_forward, _bf16_einsum_backward)


def _bf16_einsum_product(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the einsum of bfloat16 operands, summed in float32."""
    product = jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)
    return _barrier_on_cpu(product)


def _round_to_bf16(x: jax.Array) -> jax.Array:
    """Returns `x` in bfloat16, rounded once before a matmul and not again in each of its tiles."""
    return _barrier_on_cpu(x.astype(jnp.bfloat16))


def kernel_gradient(x: jax.Array, gradient: jax.Array, precision: str) -> jax.Array:
    """Returns the kernel's gradient `[in, out]` for `x [..., in]` and `gradient [..., out]`.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    x, gradient = (side.reshape(-1, side.shape[-1]) for side in (x, gradient))
    if precision == "bfloat16":
        return _bf16_kernel_gradient(x, gradient).astype(jnp.promote_types(x.dtype, gradient.dtype))
    return _computed_transposed(jnp.dot(x.T, gradient, precision=lax_precision(precision)))


def _bf16_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
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

    return lax.platform_dependent(x, gradient, cpu=grouped, default=ungrouped)


def _bf16_dot_general(left: jax.Array, right: jax.Array, axes: tuple[Axes, Axes]) -> jax.Array:
    """Contracts `axes[0]` of `left` with `axes[1]` of `right` in bfloat16, summed in float32."""
    product = lax.dot_general(
        left.astype(jnp.bfloat16),
        right.astype(jnp.bfloat16),
        (axes, ((), ())),
        preferred_element_type=jnp.float32,
    )
    # XLA would fold a transpose of the product into a form without a fast kernel on CPUs.
    return _barrier_on_cpu(product)


def uniform_init(limit: float) -> Initializer:
    """Returns the initializer that samples uniformly from +-`limit`; zeros where it is 0."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init if limit else nn.initializers.zeros_init()


class Dense(nn.Module):
    """`x [..., in] -> x @ kernel + bias [..., features]`, with `kernel [in, features]`.

    Attributes:
      features: size of the last axis of the output.
      use_bias: whether `bias [features]` is added.
      kernel_init: initializer of the kernel.
      bias_init_scale: the bias is initialized uniformly within +-`bias_init_scale / sqrt(in)`.
      precision: one of PRECISIONS.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    precision: str = "default"
    bias_init_scale: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = matmul(x, kernel, self.precision)
        if not self.use_bias:
            return y
        bias_init = uniform_init(self.bias_init_scale * x.shape[-1] ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
