"""The one dense dot: every layer multiplies by its kernel here, in the precision it was given."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

PRECISIONS = ("highest", "default", "fast")
"""`highest` is strict float32, `default` the platform's own choice, `fast` bfloat16 inputs with
float32 sums."""

ALIGNMENT = 16
"""Rows of zeros that a matrix is padded by; the matrix units of CPUs take that many at a time."""

Initializer = Callable[..., jax.Array]


def matmul(x: jax.Array, kernel: jax.Array, precision: str = "default") -> jax.Array:
    """Returns `x [..., in]` times `kernel [in, out]`, `[..., out]`, in the inputs' wider dtype.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    rows = x.reshape(-1, x.shape[-1])
    if precision == "fast":
        dtype = jnp.promote_types(x.dtype, kernel.dtype)
        product = _fast(rows.astype(jnp.float32), kernel.astype(jnp.float32)).astype(dtype)
    else:
        product = jnp.dot(rows, kernel, precision=lax_precision(precision))
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def lax_precision(precision: str) -> lax.Precision | None:
    """Returns what a dot without a kernel (attention's two) passes to `lax` for a precision name.

    `fast` means the platform's default there: bfloat16 inputs gained nothing in those dots on the
    CPUs where they were tried.

    Raises:
      ValueError: `precision` is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return lax.Precision.HIGHEST if precision == "highest" else None


@jax.custom_vjp
def _fast(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x [rows, in]` times `kernel [in, out]` from bfloat16 inputs, summed in float32.

    Differentiated by hand, because autodiff would round the incoming float32 gradient only after a
    dot in mixed dtypes, which no fast library takes.
    """
    return _bfloat16_dot(x, kernel, (1, 0))


def _fast_forward(x: jax.Array, kernel: jax.Array):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _bfloat16_dot(x, kernel, (1, 0)), (x, kernel)


def _fast_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, kernel = residuals
    gradient = gradient.astype(jnp.bfloat16)
    return _bfloat16_dot(gradient, kernel, (1, 1)), _sum_of_outer_products(x, gradient)


def _sum_of_outer_products(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns `x [rows, in]` transposed times `gradient [rows, out]`, `[in, out]`.

    A dot over the rows of both reaches no CPU's matrix units, and XLA folds a transpose into that
    very form. Padding keeps it from folding; the narrower side is the one to turn. Elsewhere the
    dot is as good as any.
    """
    narrow = x.shape[1] <= gradient.shape[1]
    turned, other = (x, gradient) if narrow else (gradient, x)

    def by_padding(turned: jax.Array, other: jax.Array) -> jax.Array:
        padded = jnp.pad(turned.T, ((0, ALIGNMENT), (0, 0)))
        return _bfloat16_dot(padded, other, (1, 0))[: turned.shape[1]]

    def plainly(turned: jax.Array, other: jax.Array) -> jax.Array:
        return _bfloat16_dot(turned, other, (0, 0))

    product = lax.platform_dependent(turned, other, cpu=by_padding, default=plainly)
    return product if narrow else product.T


_fast.defvjp(_fast_forward, _fast_backward)


def _bfloat16_dot(left: jax.Array, right: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Sums over axis `axes[0]` of `left` and `axes[1]` of `right`, both matrices."""
    return lax.dot_general(
        left.astype(jnp.bfloat16),
        right.astype(jnp.bfloat16),
        (((axes[0],), (axes[1],)), ((), ())),
        preferred_element_type=jnp.float32,
    )


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
      bias_range: the bias starts uniform within +-`bias_range / sqrt(in)`; 0: at zero.
      precision: one of PRECISIONS.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    precision: str = "default"
    bias_range: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = matmul(x, kernel, self.precision)
        if not self.use_bias:
            return y
        bias_init = within(self.bias_range * x.shape[-1] ** -0.5)
        bias = self.param("bias", bias_init, (self.features,))
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
