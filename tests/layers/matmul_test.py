import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers.cpu.matmul import kernel_gradient
from jaxlabs.layers.matmul import PRECISIONS, dot_general, lax_precision, matmul


def inputs(rows=(5, 7), width=48, features=64, dtype=np.float32):
    random = np.random.default_rng(0)
    x = random.standard_normal((*rows, width)).astype(dtype)
    return x, random.standard_normal((width, features)).astype(dtype) / width**0.5


def bfloat16(x):
    return np.asarray(x).astype(jnp.bfloat16).astype(np.float64)


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_matmul_equals_numpy(precision):
    x, kernel = inputs()
    expected = x.astype(np.float64) @ kernel.astype(np.float64)
    np.testing.assert_allclose(matmul(x, kernel, precision), expected, atol=2e-6)


def test_bfloat16_matmul_accumulates_in_float32():
    x, kernel = inputs(width=2048)
    product = matmul(x, kernel, "bfloat16")
    assert product.dtype == jnp.float32
    exact_on_rounded = bfloat16(x) @ bfloat16(kernel)
    np.testing.assert_allclose(product, exact_on_rounded, atol=2e-5)
    assert np.abs(product - x.astype(np.float64) @ kernel).max() > 1e-3


@pytest.mark.parametrize("features", [64, 24])
def test_bfloat16_gradients_are_those_of_rounded_inputs(features):
    x, kernel = inputs(features=features)
    target = np.random.default_rng(1).standard_normal((5, 7, features)).astype(np.float32)

    def total(x, kernel, precision):
        return jnp.sum(matmul(x, kernel, precision) * target)

    fast = jax.jit(jax.grad(total, (0, 1)), static_argnums=2)(x, kernel, "bfloat16")
    highest = jax.grad(total, (0, 1))(x, kernel, "highest")
    chex.assert_trees_all_equal_dtypes(fast, highest)
    exact = (
        bfloat16(target) @ bfloat16(kernel).T,
        bfloat16(x).reshape(-1, 48).T @ bfloat16(target).reshape(-1, features),
    )
    for got, exact_on_rounded, reference in zip(fast, exact, highest, strict=True):
        np.testing.assert_allclose(got, exact_on_rounded, atol=1e-4)
        # 8 bits of mantissa: relative rounding of up to 2^-8 in each factor, averaged over a sum.
        error = np.linalg.norm(got - reference) / np.linalg.norm(reference)
        assert 0 < error < 2**-7


@pytest.mark.parametrize("shape", [(1, 1), (3,), (1,), (2, 3, 4)])
def test_bfloat16_matmul_compiles_for_any_leading_shape_inside_a_scan(shape):
    x, kernel = inputs(rows=shape)

    def total(kernel):
        def add(sums, x):
            return sums + jnp.sum(jnp.square(matmul(x, kernel, "bfloat16"))), None

        return jax.lax.scan(add, 0.0, jnp.stack([x, x]))[0]

    gradient = jax.jit(jax.grad(total))(kernel)
    flat = x.reshape(-1, 48)
    expected = 4 * flat.T @ (flat @ kernel)
    assert np.linalg.norm(gradient - expected) < 2**-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_gradient_of_dense_in_float64(precision):
    with jax.enable_x64(True):
        x, kernel = inputs(rows=(3,), width=4, features=2, dtype=np.float64)
        layer = nn.Dense(2, dot_general=dot_general(precision))
        variables = {"params": {"kernel": kernel, "bias": np.array([0.3, -0.2])}}
        assert layer.apply(variables, x).dtype == jnp.float64
        check_grads(jax.jit(lambda v, x: jnp.sin(layer.apply(v, x))), (variables, x), order=2)


def test_dense_with_our_product_adds_its_bias_and_has_a_plain_kernel():
    x, kernel = inputs()
    layer = nn.Dense(64, kernel_init=nn.initializers.ones, dot_general=dot_general("default"))
    params = layer.init(jax.random.key(0), x)["params"]
    chex.assert_trees_all_equal_shapes(params, {"kernel": kernel, "bias": np.zeros(64)})
    np.testing.assert_array_equal(params["kernel"], np.ones((48, 64)))
    np.testing.assert_array_equal(params["bias"], np.zeros(64))
    bias = np.arange(64.0, dtype=np.float32)
    got = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(got, x @ kernel + bias[None, None], atol=1e-4)
    assert dot_general("default") is dot_general("default")  # equal layers share a compilation


def test_unknown_precision_lists_the_accepted_ones():
    x, kernel = inputs()
    with pytest.raises(ValueError, match="'exact' is not one of highest, default, bfloat16"):
        matmul(x, kernel, "exact")
    assert [lax_precision(name) for name in PRECISIONS] == [jax.lax.Precision.HIGHEST, None, None]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the form is chosen for CPUs")
@pytest.mark.parametrize("features", [64, 24])
@pytest.mark.parametrize("rows", [(5, 7), (8, 8)])
def test_every_bfloat16_matmul_contracts_the_columns_of_its_left_operand_on_a_cpu(rows, features):
    """XLA folds a transpose into a sum over the rows of both, which does not use matrix units."""
    x, kernel = inputs(rows=rows, features=features)

    def total(x, kernel):
        return jnp.sum(jnp.sin(matmul(x, kernel, "bfloat16")))

    compiled = jax.jit(jax.grad(total, (0, 1))).lower(x, kernel).compile().as_text()
    matmuls = [line for line in compiled.splitlines() if " dot(" in line]
    assert len(matmuls) == 3
    assert all("lhs_contracting_dims={1}" in line for line in matmuls)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the form is chosen for CPUs")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("features", "shape"), [(64, "48,64"), (24, "24,48")])
def test_no_kernel_gradient_has_more_rows_than_columns_on_a_cpu(features, shape, precision):
    """Such a sum takes up to three times as long, and XLA would undo a plain transpose."""
    x, kernel = inputs(features=features)

    def by_autodiff(kernel, x):
        return jax.grad(lambda kernel: jnp.sum(jnp.sin(matmul(x, kernel, precision))))(kernel)

    def direct(kernel, x):
        return kernel_gradient(x, matmul(x, kernel, precision), precision)

    for gradient in (by_autodiff, direct):
        compiled = jax.jit(gradient).lower(kernel, x).compile().as_text()
        assert len(re.findall(rf"= f32\[{shape}\]\{{1,0\}} dot\(", compiled)) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("width", "features"), [(48, 64), (48, 24), (48, 1), (1, 24)])
def test_kernel_gradient_equals_numpy(width, features, precision):
    x, _ = inputs(width=width)
    y = np.random.default_rng(1).standard_normal((5, 7, features)).astype(np.float32)
    rounded = bfloat16 if precision == "bfloat16" else np.asarray
    expected = np.einsum("abi,abo->io", *(rounded(side).astype(np.float64) for side in (x, y)))
    product = jax.jit(kernel_gradient, static_argnums=2)(x, y, precision)
    np.testing.assert_allclose(product, expected, atol=2e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("features", [64, 24])
def test_cpu_specific_forms_are_used_on_cpus_only(features, precision):
    x, kernel = inputs(features=features)

    def total(kernel, x):
        return jnp.sum(jnp.sin(matmul(x, kernel, precision)))

    traced = jax.jit(jax.grad(total, (0, 1))).trace(kernel, x)
    assert "optimization_barrier" not in traced.lower(lowering_platforms=("cuda",)).as_text()
    has_barrier = "optimization_barrier" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert has_barrier == (precision == "bfloat16" or features == 24)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vmap_of_kernel_gradients_over_kernels(precision):
    x, kernel = inputs(features=24)

    def gradient(kernel):
        return jax.grad(lambda kernel: jnp.sum(jnp.sin(matmul(x, kernel, precision))))(kernel)

    mapped = jax.jit(jax.vmap(gradient))(np.stack([kernel, 2 * kernel]))
    chex.assert_trees_all_close(mapped[0], gradient(kernel), atol=1e-5)
    chex.assert_trees_all_close(mapped[1], gradient(2 * kernel), atol=1e-5)


@pytest.mark.parametrize("features", [64, 24])
@pytest.mark.parametrize("rows", [1, 5, 16])
def test_bfloat16_matmuls_can_be_transposed(rows, features):
    """Without a barrier XLA on CPUs would fold the transpose into a form without a kernel."""
    x, kernel = inputs(rows=(rows,), features=features)

    def product(x, kernel):
        return matmul(x, kernel, "bfloat16").T

    def gradients(x, kernel):
        x_grad, kernel_grad = jax.grad(lambda *args: jnp.sum(jnp.sin(product(*args))), (0, 1))(
            x, kernel
        )
        return x_grad.T, kernel_grad.T

    np.testing.assert_allclose(
        jax.jit(product)(x, kernel), bfloat16(kernel).T @ bfloat16(x).T, atol=1e-4
    )
    slope = np.cos(bfloat16(x) @ bfloat16(kernel))
    expected = kernel @ slope.T, slope.T @ x
    for axes, two in (
        ((0, None), (np.stack([-x, x]), kernel)),
        ((None, 0), (x, np.stack([kernel] * 2))),
    ):
        many = jax.jit(jax.vmap(gradients, axes))(*two)
        for got, wanted in zip(many, expected, strict=True):
            assert np.linalg.norm(got[1] - wanted) < 2**-6 * np.linalg.norm(wanted)
