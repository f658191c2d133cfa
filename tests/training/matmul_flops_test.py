"""FLOP counts equal formulas and, for the same operations, the counts of XLA."""

import jax
import jax.numpy as jnp
import pytest

from jaxlabs.layers.matmul import matmul
from jaxlabs.training.matmul_flops import matmul_flops


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_batch_and_contracting_axes_count_once():
    def scores(query, key):
        return jnp.einsum("bhqd,bhkd->bhqk", query, key)

    assert matmul_flops(scores, array(2, 3, 5, 7), array(2, 3, 11, 7)) == 2 * 2 * 3 * 5 * 11 * 7


@pytest.mark.parametrize(
    "function", [convolve, lambda x, kernel: x @ kernel], ids=["conv", "matmul"]
)
def test_count_equals_xla_cost_analysis(function):
    shapes = (array(8, 6, 6, 4), array(1, 1, 4, 5))
    if function is not convolve:
        shapes = (array(16, 4), array(4, 5))
    counted = jax.jit(function).lower(*shapes).cost_analysis()["flops"]
    assert matmul_flops(function, *shapes) == counted


def test_convolution_counts_all_taps():
    assert matmul_flops(convolve, array(2, 6, 6, 4), array(3, 3, 4, 5)) == 2 * 2 * 36 * 5 * 9 * 4


def test_scan_counts_every_iteration_and_cond_most_expensive_branch():
    def iterate(x, kernel):
        def body(x, _):
            return jax.lax.cond(
                x[0, 0] > 0, lambda x: x @ kernel @ kernel, lambda x: x @ kernel, x
            ), 0

        return jax.lax.scan(body, x, None, length=7)[0]

    assert matmul_flops(iterate, array(3, 4), array(4, 4)) == 7 * 2 * 2 * 3 * 4 * 4


def test_custom_vjp_is_traced_through():
    def fast(x, kernel):
        return jax.jit(lambda x: matmul(x, kernel, "bfloat16"))(x)

    assert matmul_flops(fast, array(3, 4), array(4, 5)) == 2 * 3 * 4 * 5


def test_while_loop_of_unknown_length_is_refused():
    def endless(x, kernel):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ kernel, x)

    with pytest.raises(ValueError, match="of unknown length"):
        matmul_flops(endless, array(3, 4), array(4, 4))
