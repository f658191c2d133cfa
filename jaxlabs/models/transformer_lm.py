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
                                                          total                    10,690,625
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import ArgumentError, positive, setting
from jaxlabs.decoding.adapters import TransformerStepper
from jaxlabs.decoding.generate import generate
from jaxlabs.layers import masks, positions
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.feed_forward import ACTIVATIONS
from jaxlabs.layers.initializers import INITS, transformer_initializers
from jaxlabs.layers.matmul import dot_general, matmul
from jaxlabs.layers.multi_head_attention import empty_cache
from jaxlabs.layers.normalization import NORMS, build_norm
from jaxlabs.layers.remat import rematerialize
from jaxlabs.layers.transformer import BlockCache, EncoderBlock
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.model_config import (
    TokenModelConfig,
    check_heads,
    dropout_setting,
    embed_dim_setting,
    mlp_dim_setting,
    num_heads_setting,
    num_layers_setting,
    remat_setting,
)
from jaxlabs.training.step import build_train_step

POSITIONS = ("sinusoidal", "learned", "rotary", "alibi")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLMConfig(TokenModelConfig):
    """Sizes and choices of the model; the defaults are the reference character GPT."""

    context_length: int = positive(
        256, "maximum sequence length, in tokens", maximum=2**20, aliases=("context",)
    )
    embed_dim: int = embed_dim_setting(384)
    num_layers: int = num_layers_setting(6)
    num_heads: int = num_heads_setting(6)
    mlp_dim: int = mlp_dim_setting(1536)
    activation: str = setting("relu", "activation of the feed-forward network", choices=ACTIVATIONS)
    positions: str = setting("sinusoidal", "position encoding", choices=POSITIONS)
    attention_window: int | None = positive(
        None,
        "local attention window: keys per query, its own included; none: full causal attention",
    )
    no_causal_mask: bool = setting(
        False,
        "no causal mask, as a demonstration: the loss collapses, samples fail",
        aliases=("demo_unmasked",),
    )
    qkv_bias: bool = setting(False, "biases of queries, keys and values")
    bias: bool = setting(True, "biases of output projections, feed-forward, norms and head")
    pre_norm: bool = setting(True, "pre-norm (GPT-2); false: post-norm (Vaswani et al. 2017)")
    norm: str = setting(
        "layernorm", "normalization: layer norm, or RMS norm without parameters", choices=NORMS
    )
    qk_norm: bool = setting(False, "RMS norm of the queries and keys of each head")
    short_conv_width: int = setting(
        1,
        "kernel size of the causal convolutions before attention and feed-forward;"
        " 1: no convolutions",
        minimum=1,
        aliases=("conv_size",),
    )
    tie_embeddings: bool = setting(
        False, "use the transposed embedding as the kernel of the head, without a bias"
    )
    init: str = setting(
        "gpt2",
        "initialization: normal(0.02), biases 0, residual projections smaller (gpt2); or PyTorch's:"
        " embeddings normal(1), linear layers uniform in +-1/sqrt(fan_in) (pytorch)",
        choices=INITS,
    )
    zero_init_residual: bool = setting(False, "initialize the residual projections at zero")
    dropout: float = dropout_setting(0.2)
    remat: str = remat_setting()

    def check(self) -> None:
        check_heads(self.embed_dim, self.num_heads, self.positions)
        if self.attention_window is not None and self.no_causal_mask:
            raise ArgumentError(
                "attention_window",
                f"{self.attention_window} is not accepted with `no_causal_mask`; none",
            )


class TransformerLM(nn.Module):
    """Maps tokens to next-token logits."""

    config: TransformerLMConfig

    def setup(self):
        config = self.config
        init = transformer_initializers(
            config.init, config.num_layers, zero_residual=config.zero_init_residual
        )
        embed = functools.partial(
            nn.Embed, features=config.embed_dim, embedding_init=init.embedding
        )
        self.embedding = embed(config.vocab_size)
        if config.positions == "learned":
            self.position_embedding = embed(config.context_length)
        causal = masks.AttentionMask(window=config.attention_window)
        self.mask = None if config.no_causal_mask else causal
        self.embedding_dropout = Dropout(config.dropout)
        block = rematerialize(EncoderBlock, config.remat)
        self.blocks = [
            block(
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
                initializers=init,
                dropout=config.dropout,
                precision=config.matmul_precision,
                dtype=config.dtype,
                short_conv_width=config.short_conv_width,
            )
            for _ in range(config.num_layers)
        ]
        if config.pre_norm:
            self.final_norm = build_norm(config.norm, config.bias, config.dtype)
        if not config.tie_embeddings:
            self.head = nn.Dense(
                config.vocab_size,
                use_bias=config.bias,
                dot_general=dot_general(config.output_precision),
                **init.dense(config.embed_dim),
            )

    def __call__(
        self,
        tokens: jax.Array,
        segments: jax.Array | None = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits `[batch, time, vocabulary]` for `tokens [batch, time]`.

        Args:
          tokens: integers below `vocab_size`; at most `context_length` per row.
          segments: [batch, time], the document of each token: attention and short convolutions do
            not cross documents. Positions are those in the row. None: one document per row.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.

        Raises:
          ValueError: the sequences are longer than `context_length`.
        """
        x, mask = self.embedding_dropout(self._embed(tokens, 0), dropout_keys), self.mask
        if segments is not None:
            mask = (mask or masks.AttentionMask(causal=False)).replace(segments=segments)
        for block in self.blocks:
            x = block(x, mask, dropout_keys=dropout_keys)
        return self._logits(x)

    @nn.nowrap
    def empty_caches(self, batch_size: int) -> list[BlockCache]:
        """Returns the empty caches of all blocks."""
        config, zeros = self.config, None
        dtype = config.dtype or jnp.float32
        if config.short_conv_width > 1:
            shape = (batch_size, config.short_conv_width - 1, config.embed_dim)
            zeros = jnp.zeros(shape, dtype)
        cache = empty_cache(
            batch_size, config.num_heads, config.context_length, config.embed_dim, dtype
        )
        return [BlockCache(cache, (zeros, zeros))] * config.num_layers

    def prefill(self, tokens: jax.Array) -> list[BlockCache]:
        """Returns the caches after `tokens [batch, time]` from position 0."""
        x, caches = self._embed(tokens, 0), []
        for block in self.blocks:
            x, cache = block.prefill(x, self.mask)
            caches.append(cache)
        return caches

    def decode(
        self, tokens: jax.Array, caches: list[BlockCache], position: jax.Array
    ) -> tuple[jax.Array, list[BlockCache]]:
        """Returns logits `[batch, vocabulary]` after `tokens [batch]` at `position []`, and caches.

        Equals `__call__` for a causal model, whose keys and values do not depend on later tokens.
        """
        x = self._embed(tokens[:, None], position)
        mask = masks.decode_mask(position, self.config.context_length, self.config.attention_window)
        new_caches = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.decode(x, cache, position, mask)
            new_caches.append(cache)
        return self._logits(x)[:, 0], new_caches

    def _embed(self, tokens: jax.Array, offset: int | jax.Array) -> jax.Array:
        """Returns the embeddings of tokens at positions from `offset` on."""
        config, time = self.config, tokens.shape[1]
        if time > config.context_length:
            raise ValueError(f"{time} tokens do not fit into a context of {config.context_length}")
        x = self.embedding(tokens)
        if config.positions == "sinusoidal":
            # Section 3.4 of the paper: scaled, since the sinusoids are larger than the embeddings.
            x = x * config.embed_dim**0.5
            table = positions.sinusoidal_embedding(config.context_length, config.embed_dim)
        elif config.positions == "learned":
            table = self.position_embedding.embedding
        else:
            return cast(x, config.dtype)
        x = x + jax.lax.dynamic_slice_in_dim(jnp.asarray(table), offset, time)[None]
        return cast(x, config.dtype)

    def _logits(self, x: jax.Array) -> jax.Array:
        x = self.final_norm(x) if self.config.pre_norm else x
        if self.config.tie_embeddings:
            return matmul(x, self.embedding.embedding.T, self.config.output_precision)
        return self.head(x)


def loss(
    model: TransformerLM, variables: Variables, batch: Batch, key: Key, *, train: bool, **_: Any
) -> LossOutput:
    """Sums the next-token cross-entropy over the valid tokens of a batch, in nats, and `accuracy`.

    The batch holds `inputs`, `targets` and `weights [batch, time]`, `example_index [batch]` and, if
    documents are separate, `segments [batch, time]`; targets of weight 0 are ignored. Dropout keys
    derive from `key` and `example_index`.
    """
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    segments = batch.get("segments")
    logits = model.apply(variables, batch["inputs"], segments, dropout_keys=dropout_keys)
    return cross_entropy_output(logits, batch["targets"], batch["weights"])


train_step = build_train_step(loss)


def sample(
    model: TransformerLM,
    params: Any,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    vocab_size: int | None = None,
    **options: Any,
) -> tuple[jax.Array, jax.Array]:
    """Continues prompts `[batch, prompt_time]` of `lengths [batch]`; see `decoding.generate`.

    Beyond `context_length` tokens `past_context="slide"` is nanoGPT's sliding window, see
    `TransformerStepper`.
    """
    return generate(TransformerStepper(model, vocab_size), params, prompts, lengths, key, **options)
