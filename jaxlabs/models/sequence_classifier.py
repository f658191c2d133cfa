"""Many to one and aligned many to many: a label of a sequence, or a label of each of its words.

One model for both patterns, on any of four backbones. Shapes with the settings of the experiment:

    tokens                      [batch, time]           words, then <eos>, then padding
    embedding                   [batch, time, embed_dim]
    backbone                    [batch, time, features]
      rnn | lstm | gru          read forth (features: embed_dim), or forth and back (2 * embed_dim)
      transformer               blocks, under a causal mask where only the past may be read
    many to one
      summary                   [batch, features]       last states, or the vector of <eos>
      logits                    [batch, 1, labels]
    aligned
      logits                    [batch, time, labels]

Elman 1990 for the recurrent reader; Schuster and Paliwal 1997 for reading both ways; Vaswani et al.
2017 for the Transformer.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import Config, UserError, setting
from jaxlabs.layers import masks, positions
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.matmul import PRECISIONS, Dense
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.layers.transformer import EncoderBlock
from jaxlabs.losses.cross_entropy import scored
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.losses.spans import span_counts, span_f1
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

BACKBONES = (*CELLS, "transformer")
POSITIONS = ("sinusoidal", "rotary")
PADDING = 0
RECURRENT_LAYERS, BLOCKS = 2, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceConfig(Config):
    """Sizes and choices of all models of sequences."""

    backbone: str = setting("lstm", "what reads and writes sequences", choices=BACKBONES)
    embed_dim: int = setting(
        64, "size of a word's vector and of a state", minimum=1, maximum=65_536, aliases=("width",)
    )
    num_layers: int | None = setting(
        None,
        f"layers; none: {RECURRENT_LAYERS} recurrent ones, {BLOCKS} blocks",
        minimum=1,
        maximum=1000,
        aliases=("layers",),
    )
    num_heads: int = setting(
        4, "a Transformer's attention heads; they divide the width", minimum=1, aliases=("heads",)
    )
    mlp_dim: int = setting(
        128, "a Transformer's feed-forward hidden layer", minimum=1, aliases=("ffn_width",)
    )
    positions: str = setting("rotary", "how a Transformer tells places", choices=POSITIONS)
    dropout: float = setting(0.0, "rate on embeddings and between layers", minimum=0, maximum=0.99)
    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )

    @property
    def depth(self) -> int:
        """How many recurrent layers or blocks there are."""
        usual = RECURRENT_LAYERS if self.backbone in CELLS else BLOCKS
        return usual if self.num_layers is None else self.num_layers

    def check(self) -> None:
        if self.backbone != "transformer":
            return
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


class SequenceClassifier(nn.Module):
    """Sequences in, logits of labels out.

    Attributes:
      config: see `SequenceConfig`.
      tokens: how many words and marks there are to read.
      labels: names of all labels by number, marks included.
      length: longest source.
      aligned: whether every word gets a label, or the whole.
      bidirectional: whether a word's vector may know of later words.
    """

    config: SequenceConfig
    tokens: int
    labels: tuple[str, ...]
    length: int
    aligned: bool
    bidirectional: bool

    def setup(self):
        self.reader = Reader(self.config, self.tokens, self.length, self.bidirectional)
        self.head = Dense(len(self.labels), precision=self.config.matmul_precision)

    def __call__(self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns logits `[batch, time or 1, labels]` for `tokens [batch, time]`, see `Reader`."""
        vectors, summary = self.reader(tokens, dropout_keys=dropout_keys)
        return self.head(vectors if self.aligned else summary[:, None, :])


class Reader(nn.Module):
    """Tokens in, a vector for each and one for all of them out.

    Attributes:
      config: see `SequenceConfig`.
      tokens: how many there are.
      length: longest sequence.
      bidirectional: see `SequenceClassifier`.
    """

    config: SequenceConfig
    tokens: int
    length: int
    bidirectional: bool

    def setup(self):
        config, embed_dim = self.config, self.config.embed_dim
        self.embedding = embedding(config, self.tokens)
        self.embedding_dropout = Dropout(config.dropout)
        if config.backbone == "transformer":
            options = block_options(config, self.length)
            self.blocks = [EncoderBlock(**options) for _ in range(config.depth)]
            self.final_norm = build_norm("layernorm")
        else:
            self.recurrent = Recurrent(
                cell=config.backbone,
                features=embed_dim,
                hidden_size=embed_dim,
                num_layers=config.depth,
                bidirectional=self.bidirectional,
                dropout=config.dropout,
                precision=config.matmul_precision,
            )

    def __call__(
        self, tokens: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns `[batch, time, features]` and `[batch, features]` for `tokens [batch, time]`.

        Padding changes nothing, and what stands at its places means nothing.

        Args:
          tokens: integers below `tokens`, 0 for padding, which only the ends of rows may have.
          dropout_keys: [batch] PRNG keys of the examples; None switches dropout off.

        Raises:
          ValueError: the sequences are empty, or a Transformer's are longer than `length`.
        """
        real = tokens != PADDING
        x = self.embedding(tokens)
        if self.config.backbone != "transformer":
            x = self.embedding_dropout(x, dropout_keys)
            x, states = self.recurrent(x, mask=real, dropout_keys=dropout_keys)
            last = [state[0] for state in states[-1 - self.bidirectional :]]
            return x, jnp.concatenate(last, axis=-1)
        x = self.embedding_dropout(placed(x, 0, self.length, self.config), dropout_keys)
        mask = masks.padding(real)
        mask = mask if self.bidirectional else mask & masks.causal(tokens.shape[1])
        for block in self.blocks:
            x = block(x, mask, dropout_keys=dropout_keys)
        x = self.final_norm(x)
        end = jnp.maximum(real.sum(axis=1) - 1, 0)
        return x, x[jnp.arange(len(x)), end]


def embedding(config: SequenceConfig, tokens: int) -> nn.Embed:
    """Returns the table of word vectors, which starts as PyTorch's: normal with deviation 1."""
    return nn.Embed(tokens, config.embed_dim, embedding_init=nn.initializers.normal(1.0))


def block_options(config: SequenceConfig, length: int) -> dict[str, Any]:
    """Returns what encoder and decoder blocks have in common."""
    return {
        "embed_dim": config.embed_dim,
        "num_heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
        "length": length,
        "positions": config.positions,
        "dropout": config.dropout,
        "precision": config.matmul_precision,
    }


def placed(x: jax.Array, first: int | jax.Array, length: int, config: SequenceConfig) -> jax.Array:
    """Adds position encodings, from position `first` on, to `x [batch, time, embed_dim]`.

    Raises:
      ValueError: there are more than `length`, or none.
    """
    if not 1 <= x.shape[1] <= length:
        raise ValueError(f"a sequence of length {x.shape[1]} is not accepted; 1 to {length}")
    if config.positions == "rotary":  # which attention itself sees to
        return x
    table = jnp.asarray(positions.sinusoidal(length, config.embed_dim))
    return x + jax.lax.dynamic_slice_in_dim(table, first, x.shape[1])[None]


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the cross-entropy of the labels, in nats.

    Args:
      params: the model's parameters.
      batch: `inputs [batch, time]`, `targets` and `weights [batch, labels of a row]` and `example
        [batch]`; labels of weight 0 count for nothing.
      key: the step's key; dropout keys of the examples derive from it and `example`.
      state: holds the model.
      train: whether dropout acts.

    Returns:
      LossOutput whose `sums` hold `accuracy`, and for tags the counts of `span_counts`, so many per
      word.
    """
    dropout_keys = keys.per_example(key, batch["example"]) if train else None
    model = state.model
    logits = model.apply({"params": params}, batch["inputs"], dropout_keys=dropout_keys)
    targets, weights = batch["targets"], batch["weights"]
    if model.aligned:
        logits = logits[:, : targets.shape[1]]  # <eos> has no label
    parts = scored(logits, targets, weights)
    if model.aligned and not train:
        guesses = jnp.argmax(logits, axis=-1)
        counts = span_counts(guesses, targets, weights > 0, model.labels)
        parts.sums.update({name: jnp.sum(count) for name, count in counts.items()})
    return parts


train_step = build_train_step(loss)


def derive(figures: dict[str, float]) -> dict[str, float]:
    """Returns `span_f1` where spans were counted."""
    counts = [figures.get(f"spans_{name}") for name in ("right", "predicted", "there")]
    return {} if None in counts else {"span_f1": span_f1(*counts)}
