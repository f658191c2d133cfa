"""A Transformer encoder and a text classifier.

Vaswani et al. 2017 ("Attention Is All You Need"), the encoder alone. Shapes with the reference
sizes: 5,755 words, sentences of at most 32, embed_dim 64, 4 blocks, 2 heads, 3 speakers.

    tokens                     [batch, time]
    embedding                  [batch, time, 64]      5,755 * 64                         = 368,320
    positions                  [time, 64]             32 * 64                            =   2,048
    block x 4                  [batch, time, 64]
      norm, attention          2 heads of [time, 32]  4 * 64^2 + 64 + 128                =  16,576
      norm, feed-forward       [batch, time, 256]     2 * 64 * 256 + 256 + 64 + 128      =  33,216
    final norm                 [batch, time, 64]      2 * 64                             =     128
    mean over valid tokens     [batch, 64]
    hidden, logits             [batch, 100] [batch, 3]  64 * 100 + 100 + 100 * 3 + 3     =   6,803
                                                        total                              576,467
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import positive, setting
from jaxlabs.data.tokenizers import UNKNOWN
from jaxlabs.data.vocab import PADDING
from jaxlabs.layers import masks, positions
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import at_least_float32, cast
from jaxlabs.layers.feed_forward import ACTIVATIONS
from jaxlabs.layers.initializers import PYTORCH
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.remat import rematerialize
from jaxlabs.layers.transformer import EncoderBlock
from jaxlabs.losses.cross_entropy import cross_entropy, is_top1
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

POSITIONS = ("sinusoidal", "learned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoderConfig(TokenModelConfig):
    """Sizes and options of the encoder; the defaults are the reference classifier's."""

    context_length: int = positive(
        32,
        "maximum sentence length, in tokens; longer sentences are truncated",
        maximum=65_536,
        aliases=("context",),
    )
    embed_dim: int = embed_dim_setting(64)
    num_layers: int = num_layers_setting(4)
    num_heads: int = num_heads_setting(2)
    mlp_dim: int = mlp_dim_setting(256)
    activation: str = setting("relu", "activation of the feed-forward network", choices=ACTIVATIONS)
    positions: str = setting("learned", "position encoding", choices=POSITIONS)
    pre_norm: bool = setting(True, "pre-norm (GPT-2); false: post-norm (Vaswani et al. 2017)")
    embedding_init_std: float = setting(
        1.0,
        "initial standard deviation of the embeddings; 1 is PyTorch's",
        above=0,
        aliases=("embedding_stddev",),
    )
    dropout: float = dropout_setting(0.0)
    remat: str = remat_setting()

    def check(self) -> None:
        check_heads(self.embed_dim, self.num_heads, self.positions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassifierConfig(TextEncoderConfig):
    """Settings of the encoder and the classification head."""

    num_classes: int = positive(3, "number of classes", aliases=("classes",))
    hidden_size: int = positive(100, "hidden size of the classification head", aliases=("hidden",))
    head_dropout: float = dropout_setting(0.0, "dropout rate of the pooled output")
    word_dropout: float = dropout_setting(
        0.0, "probability of replacing a word by the unknown token in training"
    )
    ngram_hash_buckets: int = setting(
        0,
        "rows of the hash table of unigram and bigram logits; 0: none",
        minimum=0,
        aliases=("phrase_buckets",),
    )
    label_smoothing: float = setting(
        0.0,
        "label smoothing: weight of the uniform distribution in the training targets",
        minimum=0,
        maximum=1,
    )


class TextClassifier(nn.Module):
    """Maps sentences to class logits."""

    config: TextClassifierConfig

    def setup(self):
        config = self.config
        self.word_dropout = Dropout(config.word_dropout)
        self.encoder = TextEncoder(config)
        self.head_dropout = Dropout(config.head_dropout)
        self.hidden = nn.Dense(
            config.hidden_size,
            dtype=config.dtype,
            dot_general=dot_general(config.matmul_precision),
            **PYTORCH.dense(config.embed_dim),
        )
        self.head = nn.Dense(
            config.num_classes,
            dot_general=dot_general(config.output_precision),
            **PYTORCH.dense(config.hidden_size),
        )
        if config.ngram_hash_buckets:
            self.wide_logits = HashedBigramLogits(config.ngram_hash_buckets, config.num_classes)

    def __call__(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, classes]` for `tokens [batch, time]`.

        The head takes the mean vector over the valid tokens, 0 for a fully padded sentence.

        Args:
          tokens: see `TextEncoder`.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.
        """
        valid = tokens != PADDING
        kept = self.word_dropout(jnp.ones(tokens.shape, jnp.float32), dropout_keys) > 0
        tokens = jnp.where(valid & ~kept, UNKNOWN, tokens)
        vectors = self.encoder(tokens, dropout_keys=dropout_keys)
        pooled = self.head_dropout(masked_mean(vectors, valid), dropout_keys)
        logits = self.head(nn.relu(self.hidden(pooled)))
        return logits + self.wide_logits(tokens) if self.config.ngram_hash_buckets else logits


class TextEncoder(nn.Module):
    """Maps tokens to contextual embeddings."""

    config: TextEncoderConfig

    def setup(self):
        config, normal = self.config, nn.initializers.normal(self.config.embedding_init_std)
        self.embedding = nn.Embed(config.vocab_size, config.embed_dim, embedding_init=normal)
        if config.positions == "learned":
            self.position_embedding = nn.Embed(
                config.context_length, config.embed_dim, embedding_init=normal
            )
        self.embedding_dropout = Dropout(config.dropout)
        block = rematerialize(EncoderBlock, config.remat)
        self.blocks = [
            block(
                embed_dim=config.embed_dim,
                num_heads=config.num_heads,
                mlp_dim=config.mlp_dim,
                length=config.context_length,
                activation=config.activation,
                pre_norm=config.pre_norm,
                initializers=PYTORCH,
                dropout=config.dropout,
                precision=config.matmul_precision,
                dtype=config.dtype,
            )
            for _ in range(config.num_layers)
        ]
        if config.pre_norm:
            self.final_norm = build_norm("layernorm", dtype=config.dtype)

    def __call__(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `tokens [batch, time]`.

        No token attends to padding; the outputs at padding are arbitrary.

        Args:
          tokens: integers below `vocab_size`, at most `context_length` per row; 0 is padding.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.

        Raises:
          ValueError: the sentences are longer than `context_length`.
        """
        x = self.embedding_dropout(self._embed(tokens), dropout_keys)
        mask = masks.padding(tokens != PADDING)
        for block in self.blocks:
            x = block(x, mask, dropout_keys=dropout_keys)
        return self.final_norm(x) if self.config.pre_norm else x

    def _embed(self, tokens: jax.Array) -> jax.Array:
        config, time = self.config, tokens.shape[1]
        if time > config.context_length:
            raise ValueError(f"{time} tokens do not fit into a context of {config.context_length}")
        x = self.embedding(tokens)
        if config.positions == "learned":
            x = x + self.position_embedding.embedding[None, :time]
        else:
            x = x + jnp.asarray(positions.sinusoidal_embedding(time, config.embed_dim))[None]
        return cast(x, config.dtype)


class HashedBigramLogits(nn.Module):
    """A linear classifier on unigrams and bigrams with feature hashing.

    The wide part of Cheng et al. 2016 ("Wide & Deep Learning for Recommender Systems"); hashing as
    in Weinberger et al. 2009.
    """

    buckets: int  #: number of hash buckets, the rows of the table
    num_classes: int  #: number of classes, the columns of the table

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns logits `[batch, classes]`: the sum over a sentence / sqrt(its length)."""
        shape = (self.buckets, self.num_classes)
        table = self.param("table", nn.initializers.zeros_init(), shape, jnp.float32)
        valid = tokens != PADDING
        # The first bigram of a sentence starts with padding; unigrams are hashed as (-1, token).
        prev_tokens = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
        no_token = jnp.full_like(tokens, -1)
        rows = self._row(no_token, tokens), self._row(prev_tokens, tokens)
        wide_logits = jnp.stack([table[row] for row in rows])
        weights = valid[None, :, :, None].astype(wide_logits.dtype)
        total = jnp.sum(wide_logits * weights, axis=(0, 2))
        length = jnp.maximum(valid.sum(axis=1, keepdims=True), 1).astype(total.dtype)
        return total / jnp.sqrt(length)

    def _row(self, first: jax.Array, second: jax.Array) -> jax.Array:
        # Knuth's multiplicative hash, once for each token of the bigram.
        mixed = (first.astype(jnp.uint32) * jnp.uint32(2_654_435_761)) ^ second.astype(jnp.uint32)
        mixed = mixed * jnp.uint32(2_654_435_761)
        return (mixed >> 8) % jnp.uint32(self.buckets)


def masked_mean(vectors: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the mean `[batch, embed_dim]` of the valid `vectors [batch, time, embed_dim]`.

    It is 0 where all of `valid [batch, time]` are False, and in at least float32.
    """
    total = jnp.sum(jnp.where(valid[:, :, None], at_least_float32(vectors), 0), axis=1)
    return total / jnp.maximum(valid.sum(axis=1, keepdims=True), 1).astype(total.dtype)


def loss(
    model: TextClassifier, variables: Variables, batch: Batch, key: Key, *, train: bool, **_: Any
) -> LossOutput:
    """Sums the cross-entropy of the class labels, in nats, and the top-1 `accuracy`.

    The batch holds `inputs [batch, time]`, `labels`, `weights` and `example_index`, each `[batch]`;
    sentences of weight 0 are ignored. Dropout, with keys from `key` and `example_index`, and label
    smoothing apply in training.
    """
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    logits = model.apply(variables, batch["inputs"], dropout_keys=dropout_keys)
    labels, weights = batch["labels"], batch["weights"]
    nll = cross_entropy(logits, labels)
    smoothing = model.config.label_smoothing
    if train and smoothing:
        # Szegedy et al. 2016: the target is the class, mixed with the uniform distribution.
        uniform_nll = -jnp.mean(jax.nn.log_softmax(logits, axis=-1), axis=-1)
        nll = (1 - smoothing) * nll + smoothing * uniform_nll
    return LossOutput(
        loss_sum=jnp.sum(nll * weights),
        weight_sum=jnp.sum(weights),
        metric_sums={"accuracy": jnp.sum(weights * is_top1(logits, labels).astype(weights.dtype))},
    )


train_step = build_train_step(loss)


def predict(model: TextClassifier, params: Any, tokens: jax.Array) -> jax.Array:
    """Returns class probabilities `[batch, classes]` for `tokens [batch, time]`."""
    return jax.nn.softmax(model.apply({"params": params}, tokens), axis=-1)
