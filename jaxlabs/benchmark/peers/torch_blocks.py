"""Transformer blocks in PyTorch, shared by the language model and the classifier.

PyTorch is imported lazily.
"""

from typing import Any

from jaxlabs.layers import positions


def build_block(
    embed_dim: int,
    num_heads: int,
    mlp_dim: int,
    *,
    activation: str = "relu",
    pre_norm: bool = True,
    bias: bool = True,
    qkv_bias: bool = False,
    dropout: float = 0.0,
) -> Any:
    """Returns a `torch.nn.Module`, the equivalent of `EncoderBlock`.

    It maps `x [batch, time, embed_dim]` and a boolean mask of the visible keys, or None for full
    causal attention, to `[batch, time, embed_dim]`.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm = nn.LayerNorm(embed_dim, bias=bias)
            self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
            self.out = nn.Linear(embed_dim, embed_dim, bias=bias)
            self.ffn_norm = nn.LayerNorm(embed_dim, bias=bias)
            self.up_proj = nn.Linear(embed_dim, mlp_dim, bias=bias)
            self.down_proj = nn.Linear(mlp_dim, embed_dim, bias=bias)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            if pre_norm:
                x = x + self.attend(self.attention_norm(x), mask)
                return x + self.feed(self.ffn_norm(x))
            x = self.attention_norm(x + self.attend(x, mask))
            return self.ffn_norm(x + self.feed(x))

        def attend(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            batch, time, _ = x.shape
            split = (batch, time, num_heads, embed_dim // num_heads)
            query, key, value = (
                each.view(split).transpose(1, 2) for each in self.qkv(x).split(embed_dim, dim=2)
            )
            attended = functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout if self.training else 0.0,
            )
            return self.dropout(self.out(attended.transpose(1, 2).reshape(batch, time, embed_dim)))

        def feed(self, x: torch.Tensor) -> torch.Tensor:
            hidden = getattr(functional, activation)(self.up_proj(x))
            return self.dropout(self.down_proj(hidden))

    return Block()


def add_positions(module: Any, kind: str, length: int, embed_dim: int) -> None:
    """Adds learned positions, or the table of sinusoidal ones, to a `torch.nn.Module`."""
    import torch

    if kind == "learned":
        module.position_embedding = torch.nn.Embedding(length, embed_dim)
    else:
        table = positions.sinusoidal_embedding(length, embed_dim)
        module.register_buffer("position_table", torch.from_numpy(table))
