"""The arrays of a checkpoint: dotted names, shapes as text, and a checksum of all bits."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxlabs.training.state import TrainState, Tree, leaf_names


def flatten(state: TrainState) -> dict[str, jax.Array]:
    """Returns the leaves of a state by dotted name."""
    return dict(zip(leaf_names(state), jax.tree.leaves(state), strict=True))


def shapes_of(arrays: Mapping[str, jax.Array]) -> dict[str, str]:
    """Returns dtypes and shapes, such as `float32[2,3]`."""
    return {name: str(jax.typeof(array)) for name, array in arrays.items()}


def abstract_array(shape: str, sharding: jax.sharding.Sharding | None) -> jax.ShapeDtypeStruct:
    """Returns the abstract array of a stored shape, such as `float32[2,3]`."""
    dtype, sizes = re.match(r"(\w+)\[([\d,]*)\]", shape).groups()
    sizes = tuple(int(size) for size in sizes.split(",") if size)
    return jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype), sharding=sharding)


def require_checksum(arrays: Mapping[str, jax.Array], expected: int) -> None:
    """Raises ValueError unless the arrays, in the order of the state, have a checksum."""
    if int(checksum(list(arrays.values()))) != expected:
        raise ValueError("its arrays do not match their checksum")


@jax.jit
def checksum(arrays: Tree) -> jax.Array:
    """Returns [] uint32: the sum of all words of the arrays, each times its own odd number."""
    total = jnp.uint32(0)
    for number, leaf in enumerate(jax.tree.leaves(arrays)):
        words = _words(leaf)
        index = _index(words.shape) + jnp.uint32(number * 0x9E3779B1 % 2**32)
        total += jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)
    return total


def _index(shape: tuple[int, ...]) -> jax.Array:
    """Returns the index of every element in row-major order, uint32.

    Not the index of a flat copy, for which an array that is split over devices would be gathered.
    """
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return index


def _words(leaf: jax.Array) -> jax.Array:
    """Returns the bits of an array as uint32 words, an axis more if an element has several."""
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    if leaf.dtype.itemsize >= 4:  # a wide element is several words
        return jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
