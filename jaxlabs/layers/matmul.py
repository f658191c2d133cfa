"""The one dense dot, and attention's two: layers multiply here, in the precision they are given."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

PRECISIONS = ("highest", "default", "bfloat16")
"""`highest` is strict float32, `default` the platform's own choice, `fast` bfloat16 inputs with
float32 sums."""

GROUP = 8
"""Rows of a group, where a sum over rows is made one over groups and rows."""

MIN_ROUNDED = 64
"""Rows from which `fast` rounds both sides of `einsum`. Fewer read the other side so seldom that on
two CPU cores rounding it takes as long as it saves, and a single one, in decoding, far longer."""

Initializer = Callable[..., jax.Array]
Axes = tuple[int, ...]


def matmul(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Returns `x [..., in]` times `kernel [in, out]`, `[..., out]`, in the inputs' wider dtype.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    rows = x.reshape(-1, x.shape[-1])
    if precision == "bfloat16":
        dtype = jnp.promote_types(x.dtype, kernel.dtype)
        product = _fast(rows.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    else:
        product = jnp.dot(
            rows, _with_transposed_gradient(kernel), precision=lax_precision(precision)
        )
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def einsum(
    formula: str, left: jax.Array, right: jax.Array, precision: str = "default"
) -> jax.Array:
    """Returns `jnp.einsum(formula, left, right)` of two sides of which none is a kernel.

    Attention has two such dots. Below MIN_ROUNDED rows `[..., rows, columns]` of the left side
    `fast` is the platform's default; from there on it has no forward mode of differentiation. The
    formula has an arrow, each of its axes stands in two of the three terms at least, and in the
    same size wherever it stands.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision != "bfloat16" or left.shape[-2] < MIN_ROUNDED:
        right = _with_transposed_gradient(right)
        return jnp.einsum(formula, left, right, precision=lax_precision(precision))
    dtype = jnp.promote_types(left.dtype, right.dtype)
    return _fast_einsum(formula, left.astype(jnp.float32), right.astype(jnp.float32)).astype(dtype)


def lax_precision(precision: str) -> lax.Precision | None:
    """Returns what a dot or convolution that does not round its sides itself passes to `lax`.

    `fast` means the platform's default there.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return lax.Precision.HIGHEST if precision == "highest" else None


@jax.custom_jvp
def _with_transposed_gradient(right: jax.Array) -> jax.Array:
    """The right side of a dot itself, with its gradient computed as `_computed_transposed` says.

    That is a kernel `[in, out]`, or keys or values `[..., key, head_dim]`.

    By a JVP, since a VJP would end forward mode. What happens to the tangent is linear and its own
    transpose, so it happens to the gradient too.
    """
    return right


@_with_transposed_gradient.defjvp
def _with_transposed_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    (right,), (tangent,) = primals, tangents
    return _with_transposed_gradient(right), _computed_transposed(tangent)


def _computed_transposed(product: jax.Array) -> jax.Array:
    """`product [..., in, out]` itself, computed as `[..., out, in]` where a CPU is faster that way.

    A dot that sums over the rows of both sides takes up to three times as long where its result has
    more rows than columns. XLA would undo a plain transpose; it still undoes one of the caller's, a
    parameter that is given transposed.
    """
    if product.shape[-2] <= product.shape[-1]:
        return product
    return _barrier_on_cpu(product.mT).mT


def _barrier_on_cpu(x: jax.Array) -> jax.Array:
    """`x` itself, which XLA on CPUs does not merge with what reads it."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=_itself)


def _itself(x: jax.Array) -> jax.Array:
    return x


@jax.custom_vjp
def _fast(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x [rows, in]` times `kernel [in, out]` from bfloat16 inputs, summed in float32.

    Differentiated by hand, because autodiff would round the incoming float32 gradient only after a
    dot in mixed dtypes, which no fast library takes.
    """
    return _bfloat16_dot(x, kernel, ((1,), (0,)))


def _fast_forward(x: jax.Array, kernel: jax.Array):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _bfloat16_dot(x, kernel, ((1,), (0,))), (x, kernel)


def _fast_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, kernel = residuals
    gradient = gradient.astype(jnp.bfloat16)
    return _bfloat16_dot(gradient, kernel, ((1,), (1,))), _fast_sum(x, gradient)


_fast.defvjp(_fast_forward, _fast_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fast_einsum(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return _fast_einsum_forward(formula, left, right)[0]


def _fast_einsum_forward(formula: str, left: jax.Array, right: jax.Array):
    left, right = _rounded(left), _rounded(right)
    return _bfloat16_einsum(formula, left, right), (left, right)


def _fast_einsum_backward(formula: str, residuals: tuple[jax.Array, jax.Array], gradient):
    (left, right), gradient = residuals, _rounded(gradient)
    terms, product = formula.split("->")
    first, second = terms.split(",")
    left_gradient = _bfloat16_einsum(f"{product},{second}->{first}", gradient, right)
    # It sums over the rows of both sides, which takes longer with more rows than columns.
    turned = second[:-2] + second[-1] + second[-2]
    right_gradient = _bfloat16_einsum(f"{product},{first}->{turned}", gradient, left).mT
    return left_gradient, right_gradient


_fast_einsum.defvjp(_fast_einsum_forward, _fast_einsum_backward)


def _bfloat16_einsum(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """As `_bfloat16_dot`, of sides that are in bfloat16."""
    product = jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)
    return _barrier_on_cpu(product)


def _rounded(x: jax.Array) -> jax.Array:
    """`x` in bfloat16, rounded before a dot and not again in its every round."""
    return _barrier_on_cpu(x.astype(jnp.bfloat16))


def kernel_gradient(x: jax.Array, gradient: jax.Array, precision: str) -> jax.Array:
    """Returns the kernel's gradient `[in, out]` for `x [..., in]` and `gradient [..., out]`.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    x, gradient = (side.reshape(-1, side.shape[-1]) for side in (x, gradient))
    if precision == "bfloat16":
        return _fast_sum(x, gradient).astype(jnp.promote_types(x.dtype, gradient.dtype))
    return _computed_transposed(jnp.dot(x.T, gradient, precision=lax_precision(precision)))


def _fast_sum(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns `x [rows, in]` transposed times `gradient [rows, out]`, float32 `[in, out]`.

    A dot that sums over the rows of both reaches no CPU's matrix units, and a transpose in front of
    it would be folded back into that very form. Where the sum is over two axes, XLA turns one side
    itself and reaches them; it should be the narrower one.
    """

    def by_groups(x: jax.Array, gradient: jax.Array) -> jax.Array:
        if x.shape[1] > gradient.shape[1]:
            return by_groups(gradient, x).T
        missing = -len(x) % GROUP
        sides = (jnp.pad(side, ((0, missing), (0, 0))) for side in (x, gradient))
        sides = (side.reshape(-1, GROUP, side.shape[1]) for side in sides)
        return _bfloat16_dot(*sides, ((0, 1), (0, 1)))

    def plainly(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return _bfloat16_dot(x, gradient, ((0,), (0,)))

    return lax.platform_dependent(x, gradient, cpu=by_groups, default=plainly)


def _bfloat16_dot(left: jax.Array, right: jax.Array, axes: tuple[Axes, Axes]) -> jax.Array:
    """Sums over `axes[0]` of `left` and `axes[1]` of `right`, in float32."""
    product = lax.dot_general(
        left.astype(jnp.bfloat16),
        right.astype(jnp.bfloat16),
        (axes, ((), ())),
        preferred_element_type=jnp.float32,
    )
    # XLA would fold a transpose of the product into a form that it has no code for on CPUs.
    return _barrier_on_cpu(product)


def within(limit: float) -> Initializer:
    """Returns the initializer that draws uniformly from +-`limit`."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init if limit else nn.initializers.zeros_init()


class Dense(nn.Module):
    """`x [..., in] -> x @ kernel + bias [..., features]`, with `kernel [in, features]`.

    Attributes:
      features: size of the last axis of the output.
      use_bias: whether `bias [features]` is added.
      kernel_init: initializer of the kernel.
      bias_init_scale: the bias starts uniform within +-`bias_init_scale / sqrt(in)`; 0: at zero.
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
        bias_init = within(self.bias_init_scale * x.shape[-1] ** -0.5)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
