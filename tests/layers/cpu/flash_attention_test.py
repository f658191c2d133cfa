"""Attention in blocks equals attention by its definition, in value and gradient."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxlabs.layers.cpu import flash_attention as module
from jaxlabs.layers.cpu.flash_attention import flash_attention
from jaxlabs.layers.cpu.masked_attention import dense_attention
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.training.matmul_flops import matmul_flops


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_Q", 4)
    monkeypatch.setattr(module, "BLOCK_KV", 8)


def random_heads(*shape, dtype=np.float32):
    """Queries, keys, values and a target, `[batch, heads, time, head_dim]`."""
    return list(np.random.default_rng(sum(shape)).standard_normal((4, *shape)).astype(dtype))


def with_gradients(attend, qkv, target):
    def total(qkv):
        output = attend(*qkv)
        return jnp.sum(output * target), output

    return jax.jit(jax.grad(total, has_aux=True))(qkv)


@pytest.mark.parametrize(
    ("time", "window"),
    [(1, None), (3, 1), (8, None), (9, 100), (31, 1), (31, 5), (32, 8), (33, None), (50, 17)],
)
@pytest.mark.parametrize(("batch", "heads"), [(1, 1), (2, 3), (1, 6), (5, 2)])
def test_value_and_gradient_equal_those_of_all_scores(time, window, batch, heads):
    *qkv, target = random_heads(batch, heads, time, 4)
    mask = AttentionMask(window=window)
    found, expected = (
        with_gradients(
            lambda *qkv, implementation=implementation: implementation(*qkv, mask), qkv, target
        )
        for implementation in (flash_attention, dense_attention)
    )
    chex.assert_shape(found[1], (batch, heads, time, 4))
    chex.assert_trees_all_close(found, expected, atol=2e-5)


@pytest.mark.parametrize("window", [None, 6])
def test_value_equals_the_definition(window, reference):
    *qkv, _ = random_heads(1, 2, 21, 4)
    mask = AttentionMask(window=window)
    expected = reference(*qkv, np.asarray(mask.to_array(21)))
    np.testing.assert_allclose(flash_attention(*qkv, mask), expected, atol=1e-5)


def test_gradient_in_float64():
    with jax.enable_x64(True):
        *qkv, _ = random_heads(1, 2, 19, 3, dtype=np.float64)
        for window in (None, 5):
            attend = lambda *qkv, window=window: flash_attention(*qkv, AttentionMask(window=window))  # noqa: E731
            assert attend(*qkv).dtype == np.float64
            check_grads(attend, qkv, order=1, modes=["rev"])


def test_large_scores_do_not_overflow():
    *qkv, target = random_heads(1, 1, 40, 4)
    qkv[0] *= 1e4
    found, expected = (
        with_gradients(
            lambda *qkv, implementation=implementation: implementation(*qkv, AttentionMask()),
            qkv,
            target,
        )
        for implementation in (flash_attention, dense_attention)
    )
    assert np.isfinite(jax.tree.leaves(found)[0]).all()
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6 * 1e4)


@pytest.mark.parametrize(
    ("dtype", "precision"), [(jnp.float32, "bfloat16"), (jnp.bfloat16, "default")]
)
def test_bfloat16_rounds_operands_and_keeps_the_softmax_in_float32(dtype, precision):
    *qkv, target = (jnp.asarray(x, dtype) for x in random_heads(1, 2, 40, 64))
    attend = lambda *qkv: flash_attention(*qkv, AttentionMask(), precision=precision)  # noqa: E731
    found = with_gradients(attend, qkv, target)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    exact = [x.astype(jnp.float32) for x in qkv]
    expected = with_gradients(
        lambda *qkv: dense_attention(*qkv, AttentionMask(), precision="highest"), exact, target
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jnp.abs(a.astype(jnp.float32) - b).max() < 0.03 * jnp.abs(b).max()


def test_blocks_without_visible_scores_are_skipped():
    queries, keys = module._visible_blocks(None, 16)
    assert list(zip(queries, keys, strict=True)) == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    queries, keys = module._visible_blocks(2, 32)
    visible = AttentionMask(window=2).to_array(32)[0, 0].reshape(8, 4, 4, 8).any((1, 3))
    assert list(zip(queries, keys, strict=True)) == list(zip(*np.nonzero(visible), strict=True))


def test_no_mask_of_all_blocks_is_kept_for_the_gradient():
    *qkv, _ = random_heads(32, 1, 64, 4)  # two groups
    attend = lambda *qkv: flash_attention(*qkv, AttentionMask()).sum()  # noqa: E731
    program = jax.jit(jax.grad(attend)).lower(*qkv).as_text()
    blocks = len(module._visible_blocks(None, 64)[0])
    assert f"tensor<{blocks}x" in program  # their indices
    masks = re.findall(r"tensor<([0-9x]+)xi1>", program)
    assert masks
    assert not [shape for shape in masks if str(blocks) in shape.split("x")]


def test_operations_are_counted():
    qkv = random_heads(1, 1, 16, 4)[:3]
    flops = matmul_flops(lambda *qkv: flash_attention(*qkv, AttentionMask()), *qkv)
    assert flops == 6 * 2 * (2 * 4 * 8 * 4)  # six blocks, two matmuls of 4 x 8 scores


def test_a_split_batch_gives_the_same():
    *qkv, target = random_heads(4, 2, 20, 4)
    attend = lambda *qkv: flash_attention(*qkv, AttentionMask())  # noqa: E731
    expected = with_gradients(attend, qkv, target)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(qkv, NamedSharding(mesh, PartitionSpec("data")))
    chex.assert_trees_all_close(with_gradients(attend, split, target), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "batch", "heads"),
    [
        ((4, 1), 4, 2),
        ((4, 1), 12, 3),
        ((2, 2), 2, 2),
        ((2, 2), 6, 10),
        ((1, 4), 1, 4),
        ((1, 2), 3, 6),
    ],
)
def test_devices_of_a_mesh_exchange_nothing(axes, batch, heads):
    devices = jax.devices()[: axes[0] * axes[1]]
    mesh = jax.make_mesh(axes, ("data", "tensor"), devices=devices, axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, PartitionSpec("data", "tensor"))
    qkv = [jax.ShapeDtypeStruct((batch, heads, 20, 4), np.float32, sharding=split)] * 3
    attend = lambda *qkv: jax.vjp(  # noqa: E731
        lambda *qkv: flash_attention(*qkv, AttentionMask()), *qkv
    )[1](qkv[0])
    program = jax.jit(attend, out_shardings=split).lower(*qkv).compile().as_text()
    assert not re.search(
        "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter", program
    )


def test_vmap_and_remat_give_the_same():
    *qkv, target = random_heads(2, 2, 20, 4)
    attend = lambda *qkv: flash_attention(*qkv, AttentionMask())  # noqa: E731
    expected = with_gradients(attend, qkv, target)
    one = lambda *qkv: attend(*(x[None] for x in qkv))[0]  # noqa: E731
    for implementation in (jax.vmap(one), jax.checkpoint(attend)):
        chex.assert_trees_all_close(
            with_gradients(implementation, qkv, target), expected, atol=1e-6
        )


def test_blocks_of_the_real_size(monkeypatch):
    monkeypatch.undo()
    *qkv, target = random_heads(1, 1, 1100, 8)
    found, expected = (
        with_gradients(
            lambda *qkv, implementation=implementation: implementation(*qkv, AttentionMask()),
            qkv,
            target,
        )
        for implementation in (flash_attention, dense_attention)
    )
    chex.assert_trees_all_close(found, expected, atol=5e-5)
