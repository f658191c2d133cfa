"""A plain PyTorch GPT: the twin of our character GPT.

Written from the architecture, in the terms of `TransformerLMConfig`, so that one config describes
both: sinusoidal positions and ReLU make it the twin of the character GPT's `reference`, learned
positions, GELU and tied embeddings make it nanoGPT (github.com/karpathy/nanoGPT), learned positions
and PyTorch's own initialization the word-level decoder. PyTorch is imported when it is used.
"""

from collections.abc import Mapping
from typing import Any

from jaxlabs.layers import positions
from jaxlabs.models.transformer_lm import TransformerLMConfig
from jaxlabs.peers import torch_names


def build_gpt(config: TransformerLMConfig) -> Any:
    """Returns a `torch.nn.Module`: tokens `[batch, time]` to logits `[batch, time, vocabulary]`.

    Initialized as `config.init` says, from PyTorch's global generator.

    Raises:
      ValueError: the config asks for something that this plain GPT has not.
    """
    _require_plain(config)
    import torch
    from torch import nn
    from torch.nn import functional

    activation = {"relu": functional.relu, "gelu": functional.gelu}[config.activation]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            embed_dim = config.embed_dim
            self.attention_norm = nn.LayerNorm(embed_dim, bias=config.bias)
            self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=config.qkv_bias)
            self.out = nn.Linear(embed_dim, embed_dim, bias=config.bias)
            self.ffn_norm = nn.LayerNorm(embed_dim, bias=config.bias)
            self.expand = nn.Linear(embed_dim, config.mlp_dim, bias=config.bias)
            self.contract = nn.Linear(config.mlp_dim, embed_dim, bias=config.bias)
            self.residual_dropout = nn.Dropout(config.dropout)

        def forward(self, x):
            x = x + self.residual_dropout(self.out(self.attend(self.attention_norm(x))))
            hidden = activation(self.expand(self.ffn_norm(x)))
            return x + self.residual_dropout(self.contract(hidden))

        def attend(self, x):
            batch, time_steps, embed_dim = x.shape
            split = (batch, time_steps, config.num_heads, embed_dim // config.num_heads)
            query, key, value = (
                part.view(split).transpose(1, 2) for part in self.qkv(x).split(embed_dim, dim=2)
            )
            window = config.attention_window
            everything = torch.ones(time_steps, time_steps, dtype=torch.bool)
            band = None if window is None else everything.tril().triu(1 - window)
            attended = functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=band,
                is_causal=band is None,
                dropout_p=config.dropout if self.training else 0.0,
            )
            return attended.transpose(1, 2).reshape(batch, time_steps, embed_dim)

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(config.vocabulary_size, config.embed_dim)
            if config.positions == "learned":
                self.position_embedding = nn.Embedding(config.context_length, config.embed_dim)
            else:
                table = positions.sinusoidal(config.context_length, config.embed_dim)
                self.register_buffer("position_table", torch.from_numpy(table))
            self.embedding_dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(Block() for _ in range(config.num_layers))
            self.final_norm = nn.LayerNorm(config.embed_dim, bias=config.bias)
            head_bias = config.bias and not config.tie_embeddings
            self.head = nn.Linear(config.embed_dim, config.vocabulary_size, bias=head_bias)
            if config.tie_embeddings:
                self.head.weight = self.embedding.weight
            if config.init == "gpt2":
                self.initialize()

        def initialize(self):
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    residual = name.endswith(("out.weight", "contract.weight"))
                    scale = (2 * config.num_layers) ** -0.5 if residual else 1.0
                    nn.init.normal_(parameter, std=0.02 * scale)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def forward(self, tokens):
            time_steps = tokens.shape[1]
            if config.positions == "learned":
                x = self.embedding(tokens) + self.position_embedding.weight[:time_steps]
            else:
                scaled = self.embedding(tokens) * config.embed_dim**0.5
                x = scaled + self.position_table[:time_steps]
            x = self.embedding_dropout(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.final_norm(x))

    return GPT()


def _require_plain(config: TransformerLMConfig) -> None:
    plain = {
        "positions": ("sinusoidal", "learned"),
        "activation": ("relu", "gelu"),
        "no_causal_mask": (False,),
        "pre_norm": (True,),
        "norm": ("layernorm",),
        "qk_norm": (False,),
        "short_conv_width": (1,),
        "zero_init_residual": (False,),
    }
    for name, accepted in plain.items():
        value = getattr(config, name)
        if value not in accepted:
            raise ValueError(f"{name}: a plain GPT has {accepted}, not {value!r}")


def copy_parameters(gpt: Any, params: Mapping[str, Any]) -> None:
    """Writes a parameter tree of `TransformerLM`, or its gradients, into `build_gpt`'s module."""
    values = {"embedding.weight": params["embedding"]["embedding"]}
    if "position_embedding" in params:
        values["position_embedding.weight"] = params["position_embedding"]["embedding"]
    values |= torch_names.norm("final_norm", params["final_norm"])
    if "head" in params:
        values |= torch_names.linear("head", params["head"])
    torch_names.write(gpt, values | torch_names.blocks(params))
