"""The PyTorch equivalent of `jaxlabs.models.char_rnn`, with `nn.RNN`, `nn.LSTM` or `nn.GRU`.

PyTorch is imported lazily.
"""

from collections.abc import Mapping
from typing import Any

from jaxlabs.benchmark.peers import torch_names, torch_recurrent
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.models.char_rnn import CharRNNConfig


def build_char_rnn(config: CharRNNConfig) -> Any:
    """Returns a `torch.nn.Module` from tokens `[batch, time]` and a state to logits and a state."""
    import torch
    from torch import nn

    class CharRNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
            self.recurrent = torch_recurrent.build(
                Recurrent(
                    cell=config.cell,
                    features=config.embed_dim,
                    hidden_size=config.hidden_size,
                    num_layers=config.num_layers,
                    dropout=config.dropout,
                )
            )
            self.head = nn.Linear(config.hidden_size, config.vocab_size)

        def forward(self, tokens: torch.Tensor, state: Any = None) -> Any:
            x, state = self.recurrent(self.embedding(tokens), state)
            return self.head(x), state

    return CharRNN()


def copy_parameters(model: Any, params: Mapping[str, Any]) -> None:
    """Copies our parameters to the module; the second of PyTorch's two biases is zero."""
    torch_recurrent.copy_parameters(model.recurrent, params["recurrent"])
    values = {"weight": params["embedding"]["embedding"]}
    torch_names.write(model.embedding, values)
    named = torch_names.linear("head", params["head"])
    torch_names.write(model.head, {name.removeprefix("head."): v for name, v in named.items()})
