"""Sequence classification (many to one) and tagging (aligned many to many).

One model for both tasks, with one of four backbones. Shapes with the settings of the experiment:

    tokens                      [batch, time]           words, then <eos>, then padding
    embedding                   [batch, time, embed_dim]
    backbone                    [batch, time, features]
      rnn | lstm | gru          features: embed_dim, or 2 * embed_dim if bidirectional
      transformer               blocks, with a causal mask if unidirectional
    many to one
      summary                   [batch, features]       final states, or the output at <eos>
      logits                    [batch, 1, labels]
    per token
      logits                    [batch, time, labels]

Elman 1990 for the RNN; Schuster and Paliwal 1997 for the bidirectional one; Vaswani et al. 2017 for
the Transformer.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import ArgumentError, setting
from jaxlabs.data.vocab import PADDING
from jaxlabs.layers import masks, positions
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.remat import rematerialize
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.layers.transformer import EncoderBlock
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.losses.spans import span_counts, span_f1
from jaxlabs.models.model_config import (
    ModelConfig,
    check_heads,
    dropout_setting,
    embed_dim_setting,
    mlp_dim_setting,
    num_heads_setting,
    num_layers_setting,
    remat_setting,
)
from jaxlabs.training.step import build_train_step

BACKBONES = (*CELLS, "transformer")
POSITIONS = ("sinusoidal", "rotary")
RECURRENT_LAYERS, BLOCKS = 2, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceConfig(ModelConfig):
    """Sizes and options of all sequence models."""

    backbone: str = setting("lstm", "backbone of encoder and decoder", choices=BACKBONES)
    embed_dim: int = embed_dim_setting(64, "embedding size and state size")
    num_layers: int | None = num_layers_setting(
        None,
        f"number of layers; none: {RECURRENT_LAYERS} recurrent ones, {BLOCKS} Transformer blocks",
    )
    num_heads: int = num_heads_setting(4)
    mlp_dim: int = mlp_dim_setting(128)
    positions: str = setting("rotary", "position encoding of the Transformer", choices=POSITIONS)
    dropout: float = dropout_setting(0.0, "dropout rate of embeddings and between layers")
    remat: str = remat_setting()

    @property
    def depth(self) -> int:
        """Number of recurrent layers or blocks."""
        default = RECURRENT_LAYERS if self.backbone in CELLS else BLOCKS
        return default if self.num_layers is None else self.num_layers

    def check(self) -> None:
        if self.backbone == "transformer":
            check_heads(self.embed_dim, self.num_heads, self.positions)
        elif self.remat != "none":
            message = f"{self.remat} is not accepted with `backbone` {self.backbone}; none"
            raise ArgumentError("remat", message)


class SequenceClassifier(nn.Module):
    """Maps sequences to label logits."""

    config: SequenceConfig
    vocab_size: int  #: vocabulary size, with special tokens
    labels: tuple[str, ...]  #: names of all labels by index, with special tokens
    length: int  #: maximum sequence length
    per_token: bool  #: whether each token gets a label; else the sequence gets one
    bidirectional: bool  #: whether the encoding of a token depends on later tokens

    def setup(self):
        self.encoder = SequenceEncoder(
            self.config, self.vocab_size, self.length, self.bidirectional
        )
        multiply = dot_general(self.config.output_precision)
        self.head = nn.Dense(len(self.labels), dot_general=multiply)

    def __call__(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, time or 1, labels]` for `tokens [batch, time]`."""
        vectors, summary = self.encoder(tokens, dropout_keys=dropout_keys)
        return self.head(vectors if self.per_token else summary[:, None, :])


class SequenceEncoder(nn.Module):
    """Maps tokens to one vector per token and a summary vector."""

    config: SequenceConfig
    vocab_size: int  #: vocabulary size
    length: int  #: maximum sequence length
    bidirectional: bool  #: see `SequenceClassifier`

    def setup(self):
        config = self.config
        self.embedding = embedding(config, self.vocab_size)
        self.embedding_dropout = Dropout(config.dropout)
        if config.backbone == "transformer":
            options = block_options(config, self.length)
            block = rematerialize(EncoderBlock, config.remat)
            self.blocks = [block(**options) for _ in range(config.depth)]
            self.final_norm = build_norm("layernorm", dtype=config.dtype)
        else:
            self.recurrent = recurrent(config, bidirectional=self.bidirectional)

    def __call__(
        self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns `[batch, time, features]` and `[batch, features]` for `tokens [batch, time]`.

        Padding does not change the other outputs; the outputs at padding are arbitrary.

        Args:
          tokens: integers below `vocab_size`; 0 for padding, only at the end of a row.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.

        Raises:
          ValueError: the sequences are empty, or longer than `length` for a Transformer.
        """
        valid = tokens != PADDING
        x = self.embedding(tokens)
        if self.config.backbone != "transformer":
            x = self.embedding_dropout(cast(x, self.config.dtype), dropout_keys)
            x, states = self.recurrent(x, mask=valid, dropout_keys=dropout_keys)
            last = [state[0] for state in states[-1 - self.bidirectional :]]
            return x, jnp.concatenate(last, axis=-1)
        x = self.embedding_dropout(add_positions(x, 0, self.length, self.config), dropout_keys)
        mask = masks.padding(valid)
        mask = mask if self.bidirectional else mask & masks.causal(tokens.shape[1])
        for block in self.blocks:
            x = block(x, mask, dropout_keys=dropout_keys)
        x = self.final_norm(x)
        end = jnp.maximum(valid.sum(axis=1) - 1, 0)
        return x, x[jnp.arange(len(x)), end]


def embedding(config: SequenceConfig, vocab_size: int) -> nn.Embed:
    """Returns the token embedding with PyTorch's initialization, the standard normal."""
    return nn.Embed(vocab_size, config.embed_dim, embedding_init=nn.initializers.normal(1.0))


def recurrent(config: SequenceConfig, *, bidirectional: bool = False) -> Recurrent:
    """Returns the recurrent layers of an encoder or a decoder, of the size of the embedding."""
    return Recurrent(
        cell=config.backbone,
        features=config.embed_dim,
        hidden_size=config.embed_dim,
        num_layers=config.depth,
        bidirectional=bidirectional,
        dropout=config.dropout,
        precision=config.matmul_precision,
        dtype=config.dtype,
    )


def block_options(config: SequenceConfig, length: int) -> dict[str, Any]:
    """Returns the common options of encoder and decoder blocks."""
    return {
        "embed_dim": config.embed_dim,
        "num_heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
        "length": length,
        "positions": config.positions,
        "dropout": config.dropout,
        "precision": config.matmul_precision,
        "dtype": config.dtype,
    }


def add_positions(
    x: jax.Array, offset: int | jax.Array, length: int, config: SequenceConfig
) -> jax.Array:
    """Adds position encodings, from position `offset` on, to `x [batch, time, embed_dim]`.

    The result is in the dtype of activations.

    Raises:
      ValueError: the sequence is empty or longer than `length`.
    """
    if not 1 <= x.shape[1] <= length:
        raise ValueError(f"a sequence of length {x.shape[1]} is not accepted; 1 to {length}")
    if config.positions == "rotary":  # applied in attention
        return cast(x, config.dtype)
    table = jnp.asarray(positions.sinusoidal_embedding(length, config.embed_dim))
    x = x + jax.lax.dynamic_slice_in_dim(table, offset, x.shape[1])[None]
    return cast(x, config.dtype)


def loss(
    model: SequenceClassifier,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    **_: Any,
) -> LossOutput:
    """Sums the cross-entropy of the labels, in nats, and the `accuracy`.

    The batch holds `inputs [batch, time]`, `targets` and `weights [batch, time or 1]` and
    `example_index [batch]`; labels of weight 0 are ignored. In evaluation of tagging the metrics
    include the counts of `span_counts`.
    """
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    logits = model.apply(variables, batch["inputs"], dropout_keys=dropout_keys)
    targets, weights = batch["targets"], batch["weights"]
    if model.per_token:
        logits = logits[:, : targets.shape[1]]  # <eos> has no label
    output = cross_entropy_output(logits, targets, weights)
    if model.per_token and not train:
        predicted = jnp.argmax(logits, axis=-1)
        counts = span_counts(predicted, targets, weights > 0, model.labels)
        output.metric_sums.update({name: jnp.sum(count) for name, count in counts.items()})
    return output


train_step = build_train_step(loss)


def derived_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Returns `span_f1` if spans were counted."""
    counts = [metrics.get(f"spans_{name}") for name in ("correct", "predicted", "gold")]
    return {} if None in counts else {"span_f1": span_f1(*counts)}
