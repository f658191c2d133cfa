"""Conversion of our parameters to the names and layout of PyTorch modules."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def write(module: Any, values: Arrays) -> None:
    """Copies arrays to the parameters of a `torch.nn.Module`.

    Raises:
      ValueError: the names differ; the message lists the differences.
    """
    import torch

    parameters = dict(module.named_parameters())
    if parameters.keys() != values.keys():
        raise ValueError(f"parameters differ: {sorted(parameters.keys() ^ values.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(values[name])))


def blocks(params: Mapping[str, Any]) -> Arrays:
    """Returns the parameters of all `EncoderBlock`s in `params`, as `blocks.<index>.<layer>`."""
    values = {}
    for index in range(sum(name.startswith("blocks_") for name in params)):
        block, prefix = params[f"blocks_{index}"], f"blocks.{index}"
        attention = block["attention"]
        qkv = {
            kind: np.concatenate(
                [attention[f"{name}_{kind}"] for name in ("query", "key", "value")], -1
            )
            for kind in ("kernel", "bias")
            if f"query_{kind}" in attention
        }
        values |= norm(f"{prefix}.attention_norm", block["attention_norm"])
        values |= linear(f"{prefix}.qkv", qkv)
        values |= linear(f"{prefix}.out", attention["out"])
        values |= norm(f"{prefix}.ffn_norm", block["ffn_norm"])
        values |= linear(f"{prefix}.up_proj", block["ffn"]["up_proj"])
        values |= linear(f"{prefix}.down_proj", block["ffn"]["down_proj"])
    return values


def linear(name: str, layer: Mapping[str, Any]) -> Arrays:
    """Returns a `Dense` as a `torch.nn.Linear`, whose weight is `[out, in]`."""
    bias = {f"{name}.bias": layer["bias"]} if "bias" in layer else {}
    return {f"{name}.weight": np.asarray(layer["kernel"]).T} | bias


def norm(name: str, layer: Mapping[str, Any]) -> Arrays:
    """Returns a layer norm as a `torch.nn.LayerNorm`."""
    bias = {f"{name}.bias": layer["bias"]} if "bias" in layer else {}
    return {f"{name}.weight": layer["scale"]} | bias
