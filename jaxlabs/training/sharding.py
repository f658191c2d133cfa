"""How the arrays of a run are split over a mesh: one rule for parameters and all that follows them.

A mesh has three axes. Over `data` the state is replicated and the batch is split. Over `fsdp` both
are split: every array of the state along its largest axis that divides evenly (ZeRO stage 3;
Rajbhandari et al. 2020), the batch as over `data`. Over `tensor` the heads of attention and the
hidden layer of feed-forward networks are split (Megatron-LM; Shoeybi et al. 2019).

The rules go by the dotted names of the leaves of a `TrainState`. The leaves of the optimizer state
and of the EMA end with the name of their parameter, so they are split as it is.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlabs.config import ArgumentError, nearest

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"

AXES = (DATA, FSDP, TENSOR)
"""Axes of every mesh. Neighboring devices differ in the last one, which communicates most."""

BATCH_AXES = (DATA, FSDP)
"""Axes over which a batch is split."""

LOGICAL_AXES = (
    (r"(query|key|value)_kernel$", ("embed", "heads")),
    (r"(query|key|value)_bias$", ("heads",)),
    (r"attention\.out\.kernel$", ("heads", "embed")),
    (r"up_proj\.kernel$", ("embed", "mlp")),
    (r"up_proj\.bias$", ("mlp",)),
    (r"down_proj\.kernel$", ("mlp", "embed")),
)
"""Logical names of the last axes of a parameter, by the first pattern found in its dotted name."""

LOGICAL_AXIS_RULES = (("heads", TENSOR), ("mlp", TENSOR), ("embed", None))
"""Mesh axis of each logical axis, see `flax.linen.logical_to_mesh_axes`."""

RECOMPUTED = ("sharding_constraint", "concatenate", "custom_jvp_call", "transpose")
"""Operations between a gathered kernel and its matmul, see `layers.matmul`: to keep their results
for the backward pass would be to keep the kernel. Those of activations are recomputed as well,
which is cheap."""


def parse_mesh(text: str) -> dict[str, int]:
    """Returns the sizes of all axes of a mesh such as `data:2,fsdp:4`; missing ones are 1.

    Raises:
      ArgumentError: another form, an unknown or repeated axis, or a size below 1.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*:\s*([1-9]\d{0,6})\s*", part, re.ASCII)
        if found is None:
            accepted = "AXIS:SIZE, such as data:2,fsdp:4"
            raise ArgumentError("mesh", f"{part!r} is not accepted; {accepted}")
        axis, size = found.groups()
        if axis not in AXES:
            accepted = f"one of {', '.join(AXES)}{nearest(axis, AXES)}"
            raise ArgumentError("mesh", f"axis {axis!r} is not accepted; {accepted}")
        if axis in sizes:
            raise ArgumentError("mesh", f"axis {axis} is given twice in {text!r}; once")
        sizes[axis] = int(size)
    return {axis: sizes.get(axis, 1) for axis in AXES}


def partition_spec(name: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
    """Returns how a leaf of a `TrainState` is split.

    An axis whose size a mesh axis does not divide stays whole. Vectors, such as biases and scales,
    are not split over `fsdp`: gathering them takes longer than they save. The carry `[batch, ...]`
    is split as the batch.

    Args:
      name: dotted name, such as `params.blocks_0.ffn.up_proj.kernel`.
      shape: shape of the whole array.
      sizes: size of each axis of the mesh.
    """
    if name.startswith("carry"):
        parts = sizes[DATA] * sizes[FSDP]
        return PartitionSpec(BATCH_AXES) if shape and shape[0] % parts == 0 else PartitionSpec()
    axes: list[str | None] = [None] * len(shape)
    logical = next((axes for pattern, axes in LOGICAL_AXES if re.search(pattern, name)), ())
    if len(logical) <= len(shape):
        for index, axis in enumerate(nn.logical_to_mesh_axes(logical, LOGICAL_AXIS_RULES)):
            index += len(shape) - len(logical)
            if axis is not None and sizes[axis] > 1 and shape[index] % sizes[axis] == 0:
                axes[index] = axis
    if sizes[FSDP] > 1 and len(shape) > 1:
        divisible = [
            index
            for index, axis in enumerate(axes)
            if axis is None and shape[index] and shape[index] % sizes[FSDP] == 0
        ]
        if divisible:
            axes[max(divisible, key=shape.__getitem__)] = FSDP
    return PartitionSpec(*axes) if any(axes) else PartitionSpec()


def leaf_sharding(name: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a leaf of a `TrainState`, see `partition_spec`."""
    return NamedSharding(mesh, partition_spec(name, shape, mesh.shape))


def bytes_per_device(tree: Any) -> int:
    """Returns the bytes that arrays, or abstract arrays with shardings, take on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def gather(params: Any, mesh: Mesh | None) -> Any:
    """Returns parameters that are whole along `fsdp`, for the computation of a loss.

    Without this the compiler may split the activations by features instead of by examples. Their
    gradients are split as the parameters are.
    """
    if mesh is None or mesh.shape[FSDP] == 1:
        return params

    def whole(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        split = leaf_sharding(f"params.{name}", leaf.shape, mesh)
        if FSDP not in split.spec:
            return leaf
        axes = (None if axis == FSDP else axis for axis in split.spec)
        # Transposed, the first constraint splits the gradient again.
        leaf = jax.lax.with_sharding_constraint(leaf, split)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree_util.tree_map_with_path(whole, params)


def regather(loss: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Returns a loss whose backward pass gathers the parameters again instead of keeping them."""
    if mesh is None or mesh.shape[FSDP] == 1:
        return loss
    return jax.checkpoint(loss, policy=_may_be_kept)


def _may_be_kept(primitive: Any, *operands: Any, **params: Any) -> bool:
    """Returns whether the backward pass may keep the result of an operation."""
    if primitive.name == "convert_element_type":  # of a kernel, or of the rows of a matmul
        return operands[0].ndim > 2
    if primitive.name == "cond":  # by platform: a kernel of its own, or a barrier
        equations = [equation for branch in params["branches"] for equation in branch.jaxpr.eqns]
        return any(each.primitive.name != "optimization_barrier" for each in equations)
    return primitive.name not in RECOMPUTED
