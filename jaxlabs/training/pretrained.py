"""Weights of another run, or of a safetensors file, as the start of a training (`--init_from`)."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.run_folder import RunFolder, renamed
from jaxlabs.training.checkpoint_reader import read_newest_params
from jaxlabs.training.export import read_safetensors
from jaxlabs.training.state import Tree

NAMES_SHOWN = 8
"""Maximum number of names in one line of the list."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Parameters by stored dotted name, and the SHA-256 of their values."""

    arrays: Mapping[str, np.ndarray]
    sha256: str


def load_weights(path: str | os.PathLike) -> Weights:
    """Reads the parameters of a safetensors file, or of the newest checkpoint of a run folder.

    Those of a run are its EMA parameters, if it has them. A process reads without the others.

    Raises:
      ArgumentError: there is no such file or run, or it cannot be read.
    """
    found = paths.local(path, "init_from")
    try:
        if found.is_dir():
            arrays = _of_run(found)
        else:
            arrays, _ = read_safetensors(found)
    except UserError as error:
        raise ArgumentError("init_from", str(error)) from None
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items(), key=lambda item: renamed.parameter(item[0])):
        name = renamed.parameter(name)
        digest.update(f"{name} {array.dtype}{array.shape}".encode() + array.tobytes())
    return Weights(arrays, digest.hexdigest())


def _of_run(path: pathlib.Path) -> dict[str, np.ndarray]:
    folder = RunFolder(path)
    if not folder.exists():
        raise UserError(f"{path}: neither a run folder nor a .safetensors file")
    params = read_newest_params(folder.checkpoints)
    if params is None:
        raise UserError(f"{path}: the run has no checkpoint yet")
    return params


def merge(params: Tree, weights: Mapping[str, np.ndarray]) -> Tree:
    """Returns initialized parameters with the weights of the same names in their place.

    Of an array with as many axes but other sizes the common part is taken, from index 0 of each
    axis on: the rest keeps its initialization.
    """
    if not weights:
        return params
    merged, leaves = {}, flatten_dict(params, sep=".")
    weights = _under_names_of(leaves, weights)
    for name, leaf in leaves.items():
        given = weights.get(name)
        if given is None or given.ndim != leaf.ndim:
            merged[name] = leaf
        else:
            common = tuple(map(slice, map(min, given.shape, leaf.shape)))
            merged[name] = leaf.at[common].set(jnp.asarray(given[common], leaf.dtype))
    return unflatten_dict(merged, sep=".")


def _under_names_of(
    leaves: Mapping[str, object], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns weights of an earlier version under the present names."""
    present = renamed.parameters(weights, leaves)
    return {present[name]: array for name, array in weights.items()}


def describe(params: Tree, weights: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields lines: what `merge` takes, resizes and leaves, and what has no place in the model.

    Args:
      params: parameters of the model, or their shapes.
      weights: parameters by dotted name.

    Raises:
      ArgumentError: no weight has the name and the number of axes of a parameter.
    """
    taken, resized, left, unused = [], [], [], []
    leaves = flatten_dict(params, sep=".")
    weights = _under_names_of(leaves, weights)
    for name, leaf in leaves.items():
        given = weights.get(name)
        if given is None or given.ndim != leaf.ndim:
            left.append(name)
        elif given.shape == leaf.shape:
            taken.append(name)
        else:
            common = list(map(min, given.shape, leaf.shape))
            sizes = f"{list(given.shape)} -> {list(leaf.shape)}, common part {common}"
            resized.append(f"{name} {sizes} by index")
    unused = [name for name in weights if name not in leaves]
    if not taken and not resized:
        expected, found = next(iter(leaves)), next(iter(weights), "nothing")
        raise ArgumentError(
            "init_from", f"no name of its weights ({found}, ...) is in the model ({expected}, ...)"
        )
    yield f"taken: {len(taken)} of {len(leaves)} parameters"
    yield from (f"resized: {line}" for line in resized)
    for title, names in (("initialized", left), ("not used", unused)):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            yield f"{title}: {', '.join(names[:NAMES_SHOWN])}{more}"
