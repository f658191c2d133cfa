"""PyTorch equivalents of the models, by our configs, with the names of our layers."""

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from jaxlabs.data.vocab import PADDING
from jaxlabs.layers import positions
from jaxlabs.layers.convolution import EPSILON
from jaxlabs.models.char_rnn import CharRNNConfig
from jaxlabs.models.ddpm import UNetConfig
from jaxlabs.models.text_encoder import TextClassifierConfig
from jaxlabs.models.transformer_lm import TransformerLMConfig

Tensor = torch.Tensor

ACTIVATIONS = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
}

SUPPORTED_BY_GPT = {
    "positions": ("sinusoidal", "learned"),
    "activation": tuple(ACTIVATIONS),
    "no_causal_mask": (False,),
    "pre_norm": (True,),
    "norm": ("layernorm",),
    "qk_norm": (False,),
    "short_conv_width": (1,),
    "zero_init_residual": (False,),
}
"""Values of the config that `GPT` has an equivalent of."""


class Block(nn.Module):
    """`EncoderBlock`: takes `x` and the mask of visible keys, or None for full causal attention."""

    def __init__(
        self, config: Any, *, bias: bool = True, qkv_bias: bool = False, dropout: float = 0.0
    ):
        super().__init__()
        self.config, embed_dim = config, config.embed_dim
        self.attention_norm = nn.LayerNorm(embed_dim, bias=bias)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.out = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.ffn_norm = nn.LayerNorm(embed_dim, bias=bias)
        self.up_proj = nn.Linear(embed_dim, config.mlp_dim, bias=bias)
        self.down_proj = nn.Linear(config.mlp_dim, embed_dim, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.config.pre_norm:
            x = x + self.attend(self.attention_norm(x), mask)
            return x + self.feed(self.ffn_norm(x))
        x = self.attention_norm(x + self.attend(x, mask))
        return self.ffn_norm(x + self.feed(x))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        split = (*x.shape[:2], self.config.num_heads, -1)
        qkv = self.qkv(x).split(x.shape[2], dim=2)
        query, key, value = (each.view(split).transpose(1, 2) for each in qkv)
        rate = self.dropout.p if self.training else 0.0
        options = {"attn_mask": mask, "is_causal": mask is None, "dropout_p": rate}
        attended = functional.scaled_dot_product_attention(query, key, value, **options)
        return self.dropout(self.out(attended.transpose(1, 2).reshape(x.shape)))

    def feed(self, x: Tensor) -> Tensor:
        hidden = ACTIVATIONS[self.config.activation](self.up_proj(x))
        return self.dropout(self.down_proj(hidden))


class Embedding(nn.Module):
    """Token embeddings plus learned or sinusoidal positions; the base of both Transformers."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.embed_dim)
        else:
            table = positions.sinusoidal_embedding(config.context_length, config.embed_dim)
            self.register_buffer("position_table", torch.from_numpy(table))

    def embed(self, tokens: Tensor, scale: float = 1.0) -> Tensor:
        learned = self.config.positions == "learned"
        table = self.position_embedding.weight if learned else self.position_table
        return self.embedding(tokens) * scale + table[: tokens.shape[1]]


class GPT(Embedding):
    """`TransformerLM`: tokens `[batch, time]` to logits `[batch, time, vocabulary]`.

    Sinusoidal positions and ReLU give the `reference` preset of the character GPT; learned
    positions, GELU and tied embeddings give nanoGPT (github.com/karpathy/nanoGPT); learned
    positions and PyTorch's initialization give the word-level decoder.

    Raises:
      ValueError: the config has options that this GPT does not support.
    """

    def __init__(self, config: TransformerLMConfig):
        for name, accepted in SUPPORTED_BY_GPT.items():
            value = getattr(config, name)
            if value not in accepted:
                raise ValueError(f"{name}: the PyTorch GPT supports {accepted}, not {value!r}")
        super().__init__(config)
        self.embedding_dropout = nn.Dropout(config.dropout)
        options = {"bias": config.bias, "qkv_bias": config.qkv_bias, "dropout": config.dropout}
        self.blocks = nn.ModuleList(Block(config, **options) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.embed_dim, bias=config.bias)
        head_bias = config.bias and not config.tie_embeddings
        self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=head_bias)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        if config.init == "gpt2":
            self.initialize()

    def initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("out.weight", "down_proj.weight"))
                scale = (2 * self.config.num_layers) ** -0.5 if residual else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        config, time, mask = self.config, tokens.shape[1], None
        scale = config.embed_dim**0.5 if config.positions == "sinusoidal" else 1.0
        if config.attention_window is not None:
            ones = torch.ones(time, time, dtype=torch.bool)
            mask = ones.tril().triu(1 - config.attention_window)
        x = self.embedding_dropout(self.embed(tokens, scale))
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.final_norm(x))


class TextClassifier(Embedding):
    """`TextClassifier`: tokens `[batch, time]` to logits `[batch, classes]`.

    Raises:
      ValueError: the config has options that this classifier does not support.
    """

    def __init__(self, config: TextClassifierConfig):
        if config.ngram_hash_buckets or config.activation != "relu":
            raise ValueError("the PyTorch classifier supports ReLU only and no n-gram hash table")
        super().__init__(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.embed_dim) if config.pre_norm else nn.Identity()
        self.hidden = nn.Linear(config.embed_dim, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.num_classes)

    def encode(self, tokens: Tensor) -> Tensor:
        """Returns contextual vectors `[batch, time, embed_dim]`."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, (tokens != PADDING)[:, None, None, :])
        return self.final_norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        valid = (tokens != PADDING).float()[:, :, None]
        pooled = (self.encode(tokens) * valid).sum(dim=1) / valid.sum(dim=1)
        return self.head(torch.relu(self.hidden(pooled)))


class CharRNN(nn.Module):
    """`CharRNN`: tokens `[batch, time]` and a state to logits and a state."""

    def __init__(self, config: CharRNNConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        recurrent = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        sizes = (config.embed_dim, config.hidden_size, config.num_layers)
        self.recurrent = recurrent(*sizes, dropout=config.dropout, batch_first=True)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, state = self.recurrent(self.embedding(tokens), state)
        return self.head(x), state


class ResidualBlock(nn.Module):
    """`jaxlabs.layers.convolution.ResidualBlock`."""

    def __init__(self, config: UNetConfig, channels: int, features: int):
        super().__init__()
        self.first = nn.Conv2d(channels, features, 3, padding=1)
        self.first_norm = nn.GroupNorm(config.num_groups, features, eps=EPSILON)
        self.project = nn.Linear(config.time_embed_dim, features)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.second_norm = nn.GroupNorm(config.num_groups, features, eps=EPSILON)
        same = channels == features
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, features, 1)

    def forward(self, x: Tensor, time_emb: Tensor) -> Tensor:
        h = functional.silu(self.first_norm(self.first(x)))
        h = h + self.project(time_emb)[:, :, None, None]
        h = functional.silu(self.second_norm(self.second(h)))
        return h + self.shortcut(x)


class UNet(nn.Module):
    """`UNet` without class conditioning, of `x [batch, channels, height, width]`, `t [batch]`."""

    def __init__(self, config: UNetConfig, channels: int = 1, num_timesteps: int = 1000):
        super().__init__()
        low, high, size = config.base_channels, 2 * config.base_channels, config.time_embed_dim
        table = torch.from_numpy(positions.sinusoidal_embedding(num_timesteps, size))
        self.register_buffer("table", table)
        self.time_hidden, self.time_output = nn.Linear(size, size), nn.Linear(size, size)
        self.input = nn.Conv2d(channels, low, 3, padding=1)
        sizes = [(low, low), (low, high), (high, high), (2 * high, low), (2 * low, low)]
        blocks = (ResidualBlock(config, *pair) for pair in sizes)
        self.down_0, self.down_1, self.middle, self.up_1, self.up_0 = blocks
        self.output = nn.Conv2d(low, channels, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time_emb = self.time_output(functional.silu(self.time_hidden(self.table[t])))
        full = self.down_0(self.input(x), time_emb)
        half = self.down_1(functional.max_pool2d(full, 2), time_emb)
        quarter = self.middle(functional.max_pool2d(half, 2), time_emb)
        half = self.up_1(torch.cat([self.upsample(quarter), half], dim=1), time_emb)
        full = self.up_0(torch.cat([self.upsample(half), full], dim=1), time_emb)
        return self.output(full)

    def upsample(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear")
