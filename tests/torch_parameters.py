"""Copies our parameters to the PyTorch equivalents, which have the same names of layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
PROJECTIONS = ("query", "key", "value")


def copy_parameters(
    module: torch.nn.Module, params: Mapping[str, Any], *, gradients: bool = False
) -> None:
    """Copies a parameter tree, or its gradients, to a module.

    PyTorch's recurrent layers have two redundant biases: the first gets ours and the second is
    zero. Their gradients are equal, so with `gradients` both get ours.

    Raises:
      ValueError: the names differ; the message lists the differences.
    """
    parameters = dict(module.named_parameters())
    directions = 1 + any(name.endswith("_reverse") for name in parameters)
    values = dict(_named("", params, directions, gradients))
    if parameters.keys() != values.keys():
        raise ValueError(f"parameters differ: {sorted(parameters.keys() ^ values.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = np.array(values[name])
            if parameter.ndim == 4:  # a convolution; ours with 1x1 kernels are dense layers
                value = value.reshape(*parameter.shape[2:], *value.shape[-2:]).transpose(3, 2, 0, 1)
            elif name.endswith("weight") and "embedding" not in name:
                value = value.T
            parameter.copy_(torch.from_numpy(value))


def _named(
    prefix: str, tree: Mapping[str, Any], directions: int, gradients: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of a tree by PyTorch's names, in our layout."""
    for name, value in tree.items():
        if not isinstance(value, Mapping):
            yield prefix + LEAVES.get(name, name), value
        elif name.startswith("stack_"):
            yield from _recurrent(prefix, int(name[6:]), value, directions, gradients)
        elif name == "attention":
            qkv = {
                kind: np.concatenate([value[f"{each}_{kind}"] for each in PROJECTIONS], -1)
                for kind in ("kernel", "bias")
                if f"query_{kind}" in value
            }
            yield from _named(prefix, {"qkv": qkv, "out": value["out"]}, directions, gradients)
        else:
            inner = "" if name in ("encoder", "ffn") else name.replace("blocks_", "blocks.") + "."
            yield from _named(prefix + inner, value, directions, gradients)


def _recurrent(
    prefix: str, index: int, layer: Mapping[str, Any], directions: int, gradients: bool
) -> Iterator[tuple[str, np.ndarray]]:
    suffix = f"l{index // directions}" + "_reverse" * (index % directions)
    bias = np.array(layer["bias"])
    second = bias.copy() if gradients else np.zeros_like(bias)
    if "candidate_bias" in layer:
        second[-len(layer["candidate_bias"]) :] = layer["candidate_bias"]
    yield f"{prefix}weight_ih_{suffix}", np.asarray(layer["input_kernel"]).T
    yield f"{prefix}weight_hh_{suffix}", np.asarray(layer["recurrent_kernel"]).T
    yield f"{prefix}bias_ih_{suffix}", bias
    yield f"{prefix}bias_hh_{suffix}", second
