"""A recurrent character model: embedding, recurrent layers, linear head.

Karpathy 2015 ("The unreasonable effectiveness of recurrent neural networks"), trained by truncated
backpropagation through time (Williams and Peng 1990): the text is split into chunks, the state is
carried from chunk to chunk, gradients stop at the start of a chunk. Shapes with the reference
sizes: a GRU, vocabulary 65, embedding 128, hidden 256, one layer.

    tokens                 [batch, time]
    embedding              [batch, time, 128]     65 * 128                          =   8,320
    GRU                    [batch, time, 256]     (128 + 256) * 768 + 768 + 256     = 295,936
    head: logits           [batch, time, 65]      256 * 65 + 65                     =  16,705
                                                  total                               320,961
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.config import positive, setting
from jaxlabs.decoding.adapters import RecurrentStepper
from jaxlabs.decoding.generate import generate
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.rnn import RECURRENT_INITS, Recurrent, zero_state
from jaxlabs.layers.rnn_cells import CELLS, State
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.model_config import TokenModelConfig, dropout_setting, num_layers_setting
from jaxlabs.training.step import build_train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharRNNConfig(TokenModelConfig):
    """Sizes and choices of the model; the defaults are the reference."""

    cell: str = setting("gru", "cell of the recurrent layers", choices=tuple(CELLS))
    embed_dim: int = positive(128, "embedding size", aliases=("embedding",))
    hidden_size: int = positive(256, "size of a layer's state", aliases=("hidden",))
    num_layers: int = num_layers_setting(1, "recurrent layers")
    bptt_length: int = positive(
        128,
        "length of truncated backpropagation through time, in tokens",
        maximum=1_048_576,
        aliases=("context",),
    )
    stateful: bool = setting(
        True,
        "carry the states over consecutive windows of the text in training;"
        " false: random windows with zero initial states",
        aliases=("carry_state",),
    )
    recurrent_init: str = setting(
        "uniform", "initialization of the recurrent kernels", choices=RECURRENT_INITS
    )
    dropout: float = dropout_setting(0.0, "dropout rate of embeddings and layer outputs")


class CharRNN(nn.Module):
    """Maps tokens and states to next-token logits and new states."""

    config: CharRNNConfig

    def setup(self):
        config = self.config
        self.embedding = nn.Embed(config.vocab_size, config.embed_dim)
        self.embedding_dropout = Dropout(config.dropout)
        self.recurrent = Recurrent(
            cell=config.cell,
            features=config.embed_dim,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout,
            recurrent_init=config.recurrent_init,
            precision=config.matmul_precision,
            dtype=config.dtype,
        )
        self.output_dropout = Dropout(config.dropout)
        self.head = nn.Dense(config.vocab_size, dot_general=dot_general(config.output_precision))

    def __call__(
        self,
        tokens: jax.Array,
        states: tuple[State, ...] | None = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Returns logits `[batch, time, vocabulary]` for `tokens [batch, time]`, and the states.

        Args:
          tokens: integers below the vocabulary's size.
          states: initial states, from a previous call; None: zeros.
          dropout_keys: [batch] PRNG keys of the examples; None: no dropout.
        """
        if dropout_keys is not None and self.config.dropout > 0:
            x = self.embedding_dropout(self._embed(tokens), dropout_keys)
            x, states = self.recurrent(x, states, dropout_keys=dropout_keys)
        else:
            table = self.embedding.embedding
            x, states = self.recurrent(table, states, tokens=tokens, dropout_keys=dropout_keys)
        return self.head(self.output_dropout(x, dropout_keys)), states

    def decode(
        self, tokens: jax.Array, states: tuple[State, ...]
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Returns logits `[batch, vocabulary]` after `tokens [batch]`, and the states."""
        x, states = self.recurrent.step(self._embed(tokens), states)
        return self.head(x), states

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return cast(self.embedding(tokens), self.config.dtype)


def initial_states(config: CharRNNConfig, batch_size: int) -> tuple[State, ...]:
    """Returns the zero initial states."""
    return zero_state(config.cell, config.hidden_size, config.num_layers, batch_size)


def loss(
    model: CharRNN,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    train: bool,
    carry: tuple[State, ...] | None = None,
    **_: Any,
) -> LossOutput:
    """Sums the next-token cross-entropy over the valid tokens of a batch, in nats.

    Training continues from the states of the previous step, reset to zero in rows that are
    `is_first`. Evaluation starts from zero states and carries them over chunks of `bptt_length`
    tokens, so that rows can be as long as a text. The metric is the top-1 `accuracy`.

    Args:
      batch: `inputs`, `targets` and `weights [batch, time]`, `example_index [batch]`, and in
        training with a carry `is_first [batch]`; tokens of weight 0 are ignored.
      key: dropout keys of the examples derive from it and `example_index`.
      train: whether dropout applies.
      carry: in training, the states after the previous batch; None: rows are windows.
    """
    if not train:
        return _chunked_loss(model, variables, batch)
    dropout_keys = keys.per_example(key, batch["example_index"])
    if carry is None:
        return _loss(model, variables, batch, None, dropout_keys)[0]
    states = jax.tree.map(lambda leaf: jnp.where(batch["is_first"][:, None], 0, leaf), carry)
    output, states = _loss(model, variables, batch, states, dropout_keys)
    return output._replace(carry=states)


def _loss(model, variables, batch, states, dropout_keys):
    logits, states = model.apply(variables, batch["inputs"], states, dropout_keys=dropout_keys)
    return cross_entropy_output(logits, batch["targets"], batch["weights"]), states


def _chunked_loss(model, variables, batch):
    length = model.config.bptt_length
    rows, time = batch["inputs"].shape
    chunks = {
        name: jnp.pad(batch[name], ((0, 0), (0, -time % length)))
        .reshape(rows, -1, length)
        .swapaxes(0, 1)
        for name in ("inputs", "targets", "weights")
    }

    def chunk_loss(states, chunk):
        output, states = _loss(model, variables, chunk, states, None)
        return states, output

    config, dtype = model.config, jnp.result_type(*jax.tree.leaves(variables))
    initial = zero_state(config.cell, config.hidden_size, config.num_layers, rows, dtype)
    _, outputs = jax.lax.scan(chunk_loss, initial, chunks)
    return jax.tree.map(lambda leaf: leaf.sum(0), outputs)


train_step = build_train_step(loss)


def sample(
    model: CharRNN,
    params: Any,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    vocab_size: int | None = None,
    **options: Any,
) -> tuple[jax.Array, jax.Array]:
    """Continues prompts `[batch, prompt_time]` of `lengths [batch]`; see `decoding.generate`."""
    decoder = RecurrentStepper(model, initial_states, vocab_size)
    return generate(decoder, params, prompts, lengths, key, **options)
