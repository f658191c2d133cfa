"""The PyTorch equivalent of `jaxlabs.models.transformer_lm.TransformerLM`.

Configured by `TransformerLMConfig`: sinusoidal positions and ReLU give the `reference` preset of
the character GPT; learned positions, GELU and tied embeddings give nanoGPT
(github.com/karpathy/nanoGPT); learned positions and PyTorch's initialization give the word-level
decoder. PyTorch is imported lazily.
"""

from collections.abc import Mapping
from typing import Any

from jaxlabs.benchmark.peers import torch_names
from jaxlabs.benchmark.peers.torch_blocks import add_positions, build_block
from jaxlabs.models.transformer_lm import TransformerLMConfig


def build_gpt(config: TransformerLMConfig) -> Any:
    """Returns a `torch.nn.Module`: tokens `[batch, time]` to logits `[batch, time, vocabulary]`.

    Initialized by `config.init` with PyTorch's global generator.

    Raises:
      ValueError: the config has options that this GPT does not support.
    """
    _check_supported(config)
    import torch
    from torch import nn

    sizes = config.embed_dim, config.num_heads, config.mlp_dim
    options = {"activation": config.activation, "bias": config.bias, "qkv_bias": config.qkv_bias}

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
            add_positions(self, config.positions, config.context_length, config.embed_dim)
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(
                build_block(*sizes, dropout=config.dropout, **options)
                for _ in range(config.num_layers)
            )
            self.final_norm = nn.LayerNorm(config.embed_dim, bias=config.bias)
            head_bias = config.bias and not config.tie_embeddings
            self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=head_bias)
            if config.tie_embeddings:
                self.head.weight = self.embedding.weight
            if config.init == "gpt2":
                self.initialize()

        def initialize(self):
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    residual = name.endswith(("out.weight", "down_proj.weight"))
                    scale = (2 * config.num_layers) ** -0.5 if residual else 1.0
                    nn.init.normal_(parameter, std=0.02 * scale)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def forward(self, tokens):
            time, mask = tokens.shape[1], None
            if config.positions == "learned":
                x = self.embedding(tokens) + self.position_embedding.weight[:time]
            else:
                x = self.embedding(tokens) * config.embed_dim**0.5 + self.position_table[:time]
            if config.attention_window is not None:
                ones = torch.ones(time, time, dtype=torch.bool)
                mask = ones.tril().triu(1 - config.attention_window)
            x = self.embedding_dropout(x)
            for block in self.blocks:
                x = block(x, mask)
            return self.head(self.final_norm(x))

    return GPT()


def _check_supported(config: TransformerLMConfig) -> None:
    supported = {
        "positions": ("sinusoidal", "learned"),
        "activation": ("relu", "gelu"),
        "no_causal_mask": (False,),
        "pre_norm": (True,),
        "norm": ("layernorm",),
        "qk_norm": (False,),
        "short_conv_width": (1,),
        "zero_init_residual": (False,),
    }
    for name, accepted in supported.items():
        value = getattr(config, name)
        if value not in accepted:
            raise ValueError(f"{name}: the PyTorch GPT supports {accepted}, not {value!r}")


def copy_parameters(gpt: Any, params: Mapping[str, Any]) -> None:
    """Copies a parameter tree of `TransformerLM`, or its gradients, to the module."""
    values = {"embedding.weight": params["embedding"]["embedding"]}
    if "position_embedding" in params:
        values["position_embedding.weight"] = params["position_embedding"]["embedding"]
    values |= torch_names.norm("final_norm", params["final_norm"])
    if "head" in params:
        values |= torch_names.linear("head", params["head"])
    torch_names.write(gpt, values | torch_names.blocks(params))
