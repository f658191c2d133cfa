"""The PyTorch equivalent of `jaxlabs.models.text_encoder.TextClassifier`.

Configured by `TextClassifierConfig`, with PyTorch's layers and their default initialization.
PyTorch is imported lazily.
"""

from collections.abc import Mapping
from typing import Any

from jaxlabs.benchmark.peers import torch_names
from jaxlabs.benchmark.peers.torch_blocks import add_positions, build_block
from jaxlabs.data.vocab import PADDING
from jaxlabs.models.text_encoder import TextClassifierConfig


def build_classifier(config: TextClassifierConfig) -> Any:
    """Returns a `torch.nn.Module` that maps tokens `[batch, time]` to logits `[batch, classes]`.

    Raises:
      ValueError: the config has options that this classifier does not support.
    """
    if config.ngram_hash_buckets or config.activation != "relu":
        raise ValueError("the PyTorch classifier supports ReLU only and no n-gram hash table")
    import torch
    from torch import nn

    embed_dim = config.embed_dim
    sizes = embed_dim, config.num_heads, config.mlp_dim

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocab_size, embed_dim)
            add_positions(self, config.positions, config.context_length, embed_dim)
            self.blocks = nn.ModuleList(
                build_block(*sizes, pre_norm=config.pre_norm) for _ in range(config.num_layers)
            )
            if config.pre_norm:
                self.final_norm = nn.LayerNorm(embed_dim)
            self.hidden = nn.Linear(embed_dim, config.hidden_size)
            self.head = nn.Linear(config.hidden_size, config.num_classes)

        def encode(self, tokens):
            """Returns contextual vectors `[batch, time, embed_dim]`."""
            learned = config.positions == "learned"
            table = self.position_embedding.weight if learned else self.position_table
            x = self.embedding(tokens) + table[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x, (tokens != PADDING)[:, None, None, :])
            return self.final_norm(x) if config.pre_norm else x

        def forward(self, tokens):
            valid = (tokens != PADDING).float()[:, :, None]
            pooled = (self.encode(tokens) * valid).sum(dim=1) / valid.sum(dim=1)
            return self.head(torch.relu(self.hidden(pooled)))

    return Classifier()


def copy_parameters(classifier: Any, params: Mapping[str, Any]) -> None:
    """Copies a parameter tree of `TextClassifier`, or its gradients, to the module."""
    encoder = params["encoder"]
    values = {"embedding.weight": encoder["embedding"]["embedding"]}
    if "position_embedding" in encoder:
        values["position_embedding.weight"] = encoder["position_embedding"]["embedding"]
    if "final_norm" in encoder:
        values |= torch_names.norm("final_norm", encoder["final_norm"])
    values |= torch_names.blocks(encoder)
    values |= torch_names.linear("hidden", params["hidden"])
    values |= torch_names.linear("head", params["head"])
    torch_names.write(classifier, values)
