import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlabs.layers.matmul import PRECISIONS, einsum

SCORES, OUTPUT = "bhqd,bhkd->bhqk", "bhqk,bhkd->bhqd"
"""The two einsums of attention."""


def operands(formula, queries=64, keys=70, dtype=np.float32):
    """Both operands of an einsum, and an array of the shape of its output."""
    sizes = {"b": 2, "h": 3, "q": queries, "k": keys, "d": 16}
    terms = formula.replace("->", ",").split(",")
    random = np.random.default_rng(len(terms[0]))
    return [random.standard_normal([sizes[axis] for axis in term]).astype(dtype) for term in terms]


def bfloat16(x):
    return np.asarray(x).astype(jnp.bfloat16).astype(np.float64)


def reference_gradients(formula, left, right, gradient):
    terms, product = formula.split("->")
    first, second = terms.split(",")
    left_grad = np.einsum(f"{product},{second}->{first}", gradient, right)
    return left_grad, np.einsum(f"{product},{first}->{second}", gradient, left)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("formula", [SCORES, OUTPUT])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 70), (64, 3), (64, 70)])
def test_einsum_and_its_gradients_equal_numpy_on_rounded_operands(
    formula, queries, keys, precision
):
    left, right, target = operands(formula, queries, keys)

    def total(left, right):
        product = einsum(formula, left, right, precision)
        return jnp.sum(product * target), product

    run = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    gradients, product = run(left, right)
    rounded = bfloat16 if precision == "bfloat16" and queries == 64 else np.float64
    left, right, target = rounded(left), rounded(right), rounded(target)
    np.testing.assert_allclose(product, np.einsum(formula, left, right), atol=3e-5)
    expected = reference_gradients(formula, left, right, target)
    chex.assert_trees_all_close(gradients, expected, atol=3e-5)


@pytest.mark.parametrize("formula", [SCORES, OUTPUT])
def test_gradient_of_einsum_in_float64_in_forward_and_reverse_mode(formula):
    with jax.enable_x64(True):
        left, right, _ = operands(formula, queries=2, keys=3, dtype=np.float64)
        assert einsum(formula, left, right).dtype == jnp.float64
        check_grads(jax.jit(lambda *args: jnp.sin(einsum(formula, *args))), (left, right), order=1)


def test_einsum_keeps_the_wider_dtype_and_refuses_unknown_precisions():
    left, right, _ = operands(SCORES)
    narrow = jnp.asarray(left, jnp.bfloat16), jnp.asarray(right, jnp.bfloat16)
    for precision in PRECISIONS:
        assert einsum(SCORES, *narrow, precision).dtype == jnp.bfloat16
        assert einsum(SCORES, narrow[0], right, precision).dtype == jnp.float32
    with pytest.raises(ValueError, match="'exact' is not one of highest, default, bfloat16"):
        einsum(SCORES, left, right, "exact")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is chosen for CPUs")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("formula", [SCORES, OUTPUT])
def test_no_gradient_that_sums_over_queries_has_more_rows_than_columns_on_a_cpu(formula, precision):
    """With 1,024 keys such a matmul takes three times as long."""
    left, right, target = operands(formula)

    def gradient(right, left, target):
        product = jax.vjp(lambda right: einsum(formula, left, right, precision), right)[1](target)
        return product[0]

    compiled = jax.jit(gradient).lower(right, left, target).compile().as_text()
    assert len(re.findall(r"= f32\[2,3,16,70\]\S* dot\(", compiled)) == 1
    assert not re.search(r"= f32\[2,3,70,16\]\S* dot\(", compiled)


@pytest.mark.parametrize("formula", [SCORES, OUTPUT])
def test_vmap_of_einsum_over_either_operand(formula):
    left, right, _ = operands(formula)
    for precision in PRECISIONS:

        def total(left, right, precision=precision):
            return jnp.sum(jnp.sin(einsum(formula, left, right, precision)))

        gradient = jax.grad(total, (0, 1))
        mapped = jax.jit(jax.vmap(gradient, (0, None)))(np.stack([left, -left]), right)
        for index, side in enumerate((left, -left)):
            one = jax.tree.map(lambda leaf, index=index: leaf[index], mapped)
            chex.assert_trees_all_close(one, gradient(side, right), atol=1e-4)


@pytest.mark.parametrize("formula", [SCORES, OUTPUT])
@pytest.mark.parametrize(("queries", "keys"), [(64, 64), (64, 128), (70, 16)])
def test_bfloat16_einsum_and_its_gradients_can_be_transposed(formula, queries, keys):
    """Without a barrier XLA on CPUs would fold the transpose into one without a fast kernel."""
    left, right, target = operands(formula, queries, keys)

    def transposed(left, right):
        product, back = jax.vjp(lambda *args: einsum(formula, *args, "bfloat16"), left, right)
        return jax.tree.map(lambda leaf: leaf.mT + 1, (product, back(target)))

    product, gradients = jax.jit(transposed)(left, right)
    left, right, target = bfloat16(left), bfloat16(right), bfloat16(target)
    expected = np.einsum(formula, left, right), reference_gradients(formula, left, right, target)
    expected = jax.tree.map(lambda leaf: leaf.swapaxes(2, 3) + 1, expected)
    chex.assert_trees_all_close((product, gradients), expected, atol=1e-4)
