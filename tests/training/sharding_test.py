"""The rules of splitting states over a mesh; mesh_test.py trains on meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxlabs.config import UserError
from jaxlabs.layers.matmul import matmul
from jaxlabs.training import sharding
from jaxlabs.training.devices import mesh_sharding

SIZES = {"data": 2, "fsdp": 2, "tensor": 2}
ATTENTION = "params.blocks_0.attention."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fsdp:8", {"data": 1, "fsdp": 8, "tensor": 1}),
        ("tensor:4, data:16", {"data": 16, "fsdp": 1, "tensor": 4}),
        ("data:2,fsdp:2,tensor:2", SIZES),
    ],
)
def test_mesh_has_all_axes_in_one_order(text, expected):
    assert list(sharding.parse_mesh(text).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "mesh: '' is not accepted; AXIS:SIZE, such as data:2,fsdp:4"),
        ("data", "mesh: 'data' is not accepted; AXIS:SIZE, such as data:2,fsdp:4"),
        ("data:0", "mesh: 'data:0' is not accepted; AXIS:SIZE, such as data:2,fsdp:4"),
        ("data:2,", "mesh: '' is not accepted; AXIS:SIZE, such as data:2,fsdp:4"),
        (
            "fdsp:2",
            "mesh: axis 'fdsp' is not accepted; one of data, fsdp, tensor; did you mean 'fsdp'?",
        ),
        ("data:2,data:4", "mesh: axis data is given twice in 'data:2,data:4'; once"),
    ],
)
def test_wrong_mesh_is_one_line(text, line):
    with pytest.raises(UserError) as caught:
        sharding.parse_mesh(text)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (f"{ATTENTION}query_kernel", (8, 8), ("fsdp", "tensor")),
        (f"{ATTENTION}out.kernel", (8, 8), ("tensor", "fsdp")),
        (f"{ATTENTION}query_bias", (8,), ("tensor",)),
        (f"{ATTENTION}out.bias", (8,), ()),
        ("params.blocks_0.ffn.up_proj.kernel", (8, 32), ("fsdp", "tensor")),
        ("params.blocks_0.ffn.down_proj.kernel", (32, 8), ("tensor", "fsdp")),
        # The optimizer state and the EMA follow their parameter; histories have an axis before.
        ("opt_state.1.0.mu.blocks_0.ffn.up_proj.bias", (32,), ("tensor",)),
        ("ema_params.blocks_0.ffn.up_proj.kernel", (8, 32), ("fsdp", "tensor")),
        ("opt_state.0.diff.ffn.up_proj.kernel", (20, 8, 32), ("fsdp", None, "tensor")),
        # The largest axis that divides; an odd one stays whole.
        ("params.embedding.embedding", (65, 8), (None, "fsdp")),
        ("params.convolution.kernel", (3, 3, 4, 16), (None, None, None, "fsdp")),
        ("params.blocks_0.ffn.up_proj.kernel", (7, 9), ()),
        ("step", (), ()),
        ("params.head.bias", (64,), ()),
        ("carry.0.0", (8, 5), (("data", "fsdp"),)),
        ("carry.0.0", (6, 5), ()),
    ],
)
def test_leaf_is_split_by_its_name_and_shape(name, shape, expected):
    assert sharding.partition_spec(name, shape, SIZES) == PartitionSpec(*expected)


def test_axes_of_size_1_split_nothing():
    sizes = {"data": 8, "fsdp": 1, "tensor": 1}
    for name in ("query_kernel", "out.kernel"):
        assert sharding.partition_spec(ATTENTION + name, (8, 8), sizes) == PartitionSpec()


def test_gathered_parameters_are_whole_along_fsdp_and_their_gradients_split():
    mesh = mesh_sharding("fsdp:2,tensor:2", jax.devices()[:4]).mesh
    params = {"up_proj": {"kernel": np.arange(32.0).reshape(4, 8)}}

    def loss(params):
        gathered = sharding.gather(params, mesh)
        return jnp.sum(gathered["up_proj"]["kernel"] ** 2), gathered

    gradients, gathered = jax.jit(jax.grad(loss, has_aux=True))(params)
    kernel, gradient = gathered["up_proj"]["kernel"], gradients["up_proj"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, "tensor")
    assert gradient.sharding.spec == PartitionSpec("fsdp", "tensor")
    np.testing.assert_array_equal(kernel, params["up_proj"]["kernel"])
    np.testing.assert_array_equal(gradient, 2 * params["up_proj"]["kernel"])


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float32", "highest"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")],
)
def test_backward_pass_keeps_activations_but_no_gathered_kernel(dtype, precision):
    mesh = mesh_sharding("fsdp:4", jax.devices()[:4]).mesh
    split = sharding.leaf_sharding("params.kernel", (8, 16), mesh)
    kernel, x = jax.device_put(np.ones((8, 16), np.float32), split), np.ones((4, 8), np.float32)

    def loss(params):
        gathered = sharding.gather(params, mesh)["kernel"].astype(dtype)
        hidden = jnp.tanh(matmul(x.astype(dtype), gathered, precision))
        twice = jnp.concatenate([gathered.T, gathered.T], axis=1)
        return jnp.sum(matmul(hidden, twice, precision) ** 2)

    _, backward = jax.vjp(sharding.regather(loss, mesh), {"kernel": kernel})
    kept = jax.tree.leaves(backward)
    shapes = [leaf.shape for leaf in kept]
    assert (4, 16) in shapes
    assert not {(16, 16), (16, 8)}.intersection(shapes)
    assert [leaf.sharding for leaf in kept if leaf.shape == (8, 16)] == [split]
    assert sharding.regather(loss, None) is loss
