"""The PyTorch equivalent of `jaxlabs.models.text_encoder.TextClassifier`.

Configured by `TextClassifierConfig`, with PyTorch's layers and their default initialization.
PyTorch is imported lazily.
"""

from collections.abc import Mapping
from typing import Any

from jaxlabs.benchmark.peers import torch_names
from jaxlabs.data.tokenizers import PADDING
from jaxlabs.layers import positions
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

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm = nn.LayerNorm(embed_dim)
            self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
            self.out = nn.Linear(embed_dim, embed_dim)
            self.ffn_norm = nn.LayerNorm(embed_dim)
            self.up_proj = nn.Linear(embed_dim, config.mlp_dim)
            self.down_proj = nn.Linear(config.mlp_dim, embed_dim)

        def forward(self, x, padding):
            if config.pre_norm:
                x = x + self.attend(self.attention_norm(x), padding)
                return x + self.feed(self.ffn_norm(x))
            x = self.attention_norm(x + self.attend(x, padding))
            return self.ffn_norm(x + self.feed(x))

        def attend(self, x, padding):
            batch, time, _ = x.shape
            split = (batch, time, config.num_heads, embed_dim // config.num_heads)
            query, key, value = (
                each.view(split).transpose(1, 2) for each in self.qkv(x).split(embed_dim, dim=2)
            )
            attended = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=~padding[:, None, None, :]
            )
            return self.out(attended.transpose(1, 2).reshape(batch, time, embed_dim))

        def feed(self, x):
            return self.down_proj(torch.relu(self.up_proj(x)))

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocab_size, embed_dim)
            if config.positions == "learned":
                self.position_embedding = nn.Embedding(config.context_length, embed_dim)
            else:
                table = positions.sinusoidal_embedding(config.context_length, embed_dim)
                self.register_buffer("position_table", torch.from_numpy(table))
            self.blocks = nn.ModuleList(Block() for _ in range(config.num_layers))
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
                x = block(x, tokens == PADDING)
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
