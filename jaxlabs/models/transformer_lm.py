"""A decoder-only Transformer language model.

Vaswani et al. 2017 ("Attention Is All You Need"), stacked and normalized as in Radford et al. 2019
(GPT-2). Shapes with the reference sizes: vocabulary 65, context 256, embed_dim 384, 6 blocks, 6
heads.

    tokens                     [batch, time]
    embedding + positions      [batch, time, 384]         65 * 384                =    24,960
    block x 6                  [batch, time, 384]
      norm, attention          6 heads of [time, 64]      4 * 384^2 + 384 + 768   =   590,976
      norm, feed-forward       [batch, time, 1536]        8 * 384^2 + 1920 + 768  = 1,182,336
    final norm                 [batch, time, 384]         2 * 384                 =       768
    head: logits               [batch, time, 65]          384 * 65 + 65           =    25,025
                                                          all                      10,690,625
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import UserError, setting
from jaxlabs.decoding.generate import generate
from jaxlabs.decoding.transformer import TransformerDecoder
from jaxlabs.layers import masks, positions
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.feed_forward import ACTIVATIONS
from jaxlabs.layers.initializers import INITS, transformer_initializers
from jaxlabs.layers.local_attention import AttentionMask
from jaxlabs.layers.matmul import PRECISIONS, Dense, matmul
from jaxlabs.layers.multi_head_attention import Mask
from jaxlabs.layers.normalization import NORMS, build_norm
from jaxlabs.layers.transformer import BlockCache, EncoderBlock, empty_block_cache
from jaxlabs.losses.cross_entropy import scored
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.models.vocabulary import VocabularyConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

POSITIONS = ("sinusoidal", "learned", "rotary", "alibi")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLMConfig(VocabularyConfig):
    """Sizes and choices of the model; the defaults are the reference character GPT."""

    context_length: int = setting(
        256, "longest sequence, in tokens", minimum=1, maximum=1_048_576, aliases=("context",)
    )
    embed_dim: int = setting(
        384, "size of a token's vector", minimum=1, maximum=65_536, aliases=("width",)
    )
    num_layers: int = setting(6, "blocks", minimum=1, maximum=1000, aliases=("layers",))
    num_heads: int = setting(
        6, "attention heads; they divide the width", minimum=1, aliases=("heads",)
    )
    mlp_dim: int = setting(
        1536, "size of the feed-forward network's hidden layer", minimum=1, aliases=("ffn_width",)
    )
    activation: str = setting("relu", "of the feed-forward network", choices=ACTIVATIONS)
    positions: str = setting("sinusoidal", "how positions are told", choices=POSITIONS)
    attention_window: int | None = setting(
        None, "keys that a query sees, its own included; none: all before it", minimum=1
    )
    no_causal_mask: bool = setting(
        False,
        "no causal mask, to see why there is one: the loss collapses, samples fail",
        aliases=("demo_unmasked",),
    )
    qkv_bias: bool = setting(False, "biases of queries, keys and values")
    bias: bool = setting(True, "biases of output projections, feed-forward, norms and head")
    pre_norm: bool = setting(True, "norm before each sub-layer (GPT-2) and not after it (2017)")
    norm: str = setting("layernorm", "layer norm, or RMS norm without parameters", choices=NORMS)
    qk_norm: bool = setting(False, "RMS norm of every head's queries and keys")
    short_conv_width: int = setting(
        1,
        "tokens that the convolutions before attention and feed-forward see, the position's own"
        " included; 1: no convolutions",
        minimum=1,
        aliases=("conv_size",),
    )
    tie_embeddings: bool = setting(False, "head kernel = embedding transposed, without a bias")
    init: str = setting(
        "gpt2",
        "normal(0.02), biases 0, residual projections smaller (gpt2); PyTorch's defaults:"
        " embeddings normal(1), linear layers uniform in +-1/sqrt(fan_in) (pytorch)",
        choices=INITS,
    )
    zero_init_residual: bool = setting(False, "residual projections start at zero")
    dropout: float = setting(
        0.2, "rate on embeddings, attention weights and sub-layer outputs", minimum=0, maximum=0.99
    )
    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )

    def check(self) -> None:
        if self.embed_dim % self.num_heads:
            raise UserError(
                f"--num_heads: {self.num_heads} does not divide --embed_dim {self.embed_dim}; a"
                " divisor"
            )
        if self.positions == "rotary" and self.embed_dim // self.num_heads % 2:
            raise UserError(
                f"--num_heads: {self.num_heads} heads of {self.embed_dim // self.num_heads} cannot"
                " turn in pairs;"
                " rotary positions accept heads of an even size"
            )
        if self.attention_window is not None and self.no_causal_mask:
            raise UserError(
                f"--attention_window: {self.attention_window} is not accepted with"
                " --no_causal_mask;"
                " none"
            )


class TransformerLM(nn.Module):
    """Tokens in, logits of the next token out.

    Attributes:
      config: see `TransformerLMConfig`.
    """

    config: TransformerLMConfig

    def setup(self):
        config = self.config
        init = transformer_initializers(
            config.init, config.num_layers, zero_residual=config.zero_init_residual
        )
        self.embedding = nn.Embed(
            config.vocabulary_size, config.embed_dim, embedding_init=init.embedding
        )
        if config.positions == "learned":
            self.position_embedding = positions.LearnedPositions(
                config.context_length, config.embed_dim, init.embedding
            )
        self.embedding_dropout = Dropout(config.dropout)
        self.blocks = [
            EncoderBlock(
                embed_dim=config.embed_dim,
                num_heads=config.num_heads,
                mlp_dim=config.mlp_dim,
                length=config.context_length,
                activation=config.activation,
                positions=config.positions,
                pre_norm=config.pre_norm,
                norm=config.norm,
                qk_norm=config.qk_norm,
                qkv_bias=config.qkv_bias,
                use_bias=config.bias,
                kernel_init=init.kernel,
                out_init=init.residual,
                dropout=config.dropout,
                precision=config.matmul_precision,
                bias_init_scale=init.bias_init_scale,
                short_conv_width=config.short_conv_width,
            )
            for _ in range(config.num_layers)
        ]
        if config.pre_norm:
            self.final_norm = build_norm(config.norm, config.bias)
        if not config.tie_embeddings:
            self.head = Dense(
                config.vocabulary_size,
                config.bias,
                init.kernel,
                config.matmul_precision,
                init.bias_init_scale,
            )

    def __call__(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, time, vocabulary]` for `tokens [batch, time]`.

        Args:
          tokens: integers below the vocabulary's size; at most `context` of them in a row.
          dropout_keys: [batch] PRNG keys of the examples; None switches dropout off.

        Raises:
          ValueError: the sequences are longer than the context.
        """
        x = self.embedding_dropout(self._embed(tokens, 0), dropout_keys)
        mask = self._mask()
        for block in self.blocks:
            x = block(x, mask, dropout_keys=dropout_keys)
        return self._logits(x)

    @nn.nowrap
    def empty_caches(self, batch_size: int) -> list[BlockCache]:
        """Returns caches of rows that have read nothing, one of every block."""
        config = self.config
        sizes = (config.num_heads, config.context_length, config.embed_dim, config.short_conv_width)
        return [empty_block_cache(batch_size, *sizes)] * config.num_layers

    def prefill(self, tokens: jax.Array) -> list[BlockCache]:
        """Returns the caches after `tokens [batch, time]` from position 0."""
        x = self._embed(tokens, 0)
        mask = self._mask()
        caches = []
        for block in self.blocks:
            x, cache = block.prefill(x, mask)
            caches.append(cache)
        return caches

    def decode(
        self, tokens: jax.Array, caches: list[BlockCache], position: jax.Array
    ) -> tuple[jax.Array, list[BlockCache]]:
        """Returns logits `[batch, vocabulary]` after `tokens [batch]` at `position []`, and caches.

        A cached position never learns of later ones, so this equals `__call__` for a causal model.
        """
        x = self._embed(tokens[:, None], position)
        mask = masks.cached(position, self.config.context_length, self.config.attention_window)
        new_caches = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.decode(x, cache, position, mask)
            new_caches.append(cache)
        return self._logits(x)[:, 0], new_caches

    def _embed(self, tokens: jax.Array, first: int | jax.Array) -> jax.Array:
        """Returns the vectors of tokens that stand at positions `first` and on."""
        config, time = self.config, tokens.shape[1]
        if time > config.context_length:
            raise ValueError(f"{time} tokens do not fit into a context of {config.context_length}")
        x = self.embedding(tokens)
        if config.positions == "sinusoidal":
            # Section 3.4 of the paper: without the factor the sinusoids would drown the tokens.
            table = jnp.asarray(positions.sinusoidal(config.context_length, config.embed_dim))
            rows = jax.lax.dynamic_slice_in_dim(table, first, time)
            return x * config.embed_dim**0.5 + rows[None]
        if config.positions == "learned":
            return x + self.position_embedding(first, time)[None]
        return x

    def _mask(self) -> Mask:
        if self.config.no_causal_mask:
            return None
        return AttentionMask(self.config.attention_window)

    def _logits(self, x: jax.Array) -> jax.Array:
        x = self.final_norm(x) if self.config.pre_norm else x
        if self.config.tie_embeddings:
            return matmul(x, self.embedding.embedding.T, self.config.matmul_precision)
        return self.head(x)


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the next-token cross-entropy over the real tokens of a batch, in nats.

    Args:
      params: the model's parameters.
      batch: `inputs`, `targets` and `weights [batch, time]` and `example [batch]`; tokens of weight
        0 count for nothing.
      key: the step's key; dropout keys of the examples derive from it and `example`.
      state: holds the model.
      train: whether dropout acts.

    Returns:
      LossOutput whose `sums` hold `accuracy`: how often the likeliest token is the target.
    """
    dropout_keys = keys.per_example(key, batch["example"]) if train else None
    logits = state.model.apply({"params": params}, batch["inputs"], dropout_keys=dropout_keys)
    return scored(logits, batch["targets"], batch["weights"])


train_step = build_train_step(loss)


def sample(
    model: TransformerLM,
    params: Any,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    tokens: int | None = None,
    **options: Any,
) -> tuple[jax.Array, jax.Array]:
    """Continues prompts `[batch, prompt_time]` of `lengths [batch]`; see `decoding.generate`.

    Past the context this is not nanoGPT's sliding window, see `TransformerDecoder`.
    """
    return generate(TransformerDecoder(model, tokens), params, prompts, lengths, key, **options)
