"""PyTorch's `nn.RNN`, `nn.LSTM` and `nn.GRU` as equivalents of `jaxlabs.layers.rnn`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlabs.benchmark.peers import torch_names
from jaxlabs.layers.rnn import Recurrent


def build(model: Recurrent) -> Any:
    """Returns the equivalent `torch.nn.Module`, batch-major."""
    import torch

    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[model.cell]
    return module(
        model.features,
        model.hidden_size,
        model.num_layers,
        dropout=model.dropout,
        bidirectional=model.bidirectional,
        batch_first=True,
    )


def copy_parameters(module: Any, params: Mapping[str, Any], *, gradients: bool = False) -> None:
    """Copies parameters of `Recurrent`, or their gradients, to the module.

    PyTorch has two redundant biases: the first gets ours and the second is zero. Their gradients
    are equal, so both get ours.
    """
    values = {}
    directions = 1 + module.bidirectional
    for index in range(module.num_layers * directions):
        layer = params[f"stack_{index}"]
        suffix = f"l{index // directions}" + "_reverse" * (index % directions)
        bias = np.array(layer["bias"])
        second = bias.copy() if gradients else np.zeros_like(bias)
        if "candidate_bias" in layer:
            second[2 * module.hidden_size :] = layer["candidate_bias"]
        values |= {
            f"weight_ih_{suffix}": np.asarray(layer["input_kernel"]).T,
            f"weight_hh_{suffix}": np.asarray(layer["recurrent_kernel"]).T,
            f"bias_ih_{suffix}": bias,
            f"bias_hh_{suffix}": second,
        }
    torch_names.write(module, values)
