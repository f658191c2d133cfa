"""Sequence-to-sequence models: an encoder-decoder for translation.

Recurrent (Sutskever et al. 2014, with Luong et al. 2015's global attention) or a Transformer
(Vaswani et al. 2017). Shapes with the settings of the experiment:

    source               [batch, source time]               words, <eos>, padding
    encoder              [batch, source time, embed_dim]    bidirectional: the memory
    target               [batch, time]                      shifted right: <sos>, then the words
    decoder
      rnn | lstm | gru   [batch, time, embed_dim]           initial state: the encoder's summary
        attention        softmax over the source of h_t W m_s; the context vector c_t
        output           tanh(W [c_t; h_t])
      transformer        blocks: causal self-attention, cross-attention, feed-forward
    logits               [batch, time, target words]

Training uses teacher forcing (Williams and Zipser 1989), in parallel over all positions; decoding
is autoregressive, see `Seq2SeqStepper`.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.decoding.beam import Beams, beam_search
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.losses.cross_entropy import cross_entropy_output, is_top1
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.seq2seq_decoders import Memory, RNNAttentionDecoder, TransformerDecoderStack
from jaxlabs.models.sequence_classifier import PADDING, SequenceConfig, SequenceEncoder
from jaxlabs.training.step import build_train_step

START, END = 1, 2


class Seq2Seq(nn.Module):
    """Maps source sentences to target logits."""

    config: SequenceConfig
    source_vocab_size: int  #: source vocabulary size, with special tokens
    target_vocab_size: int  #: target vocabulary size, with special tokens
    source_length: int  #: maximum source length, with `<eos>`
    target_length: int  #: maximum target length, with `<eos>`

    def setup(self):
        config = self.config
        self.encoder = SequenceEncoder(
            config, self.source_vocab_size, self.source_length, bidirectional=True
        )
        self.memory = nn.Dense(config.embed_dim, dot_general=dot_general(config.matmul_precision))
        decoder = RNNAttentionDecoder if config.backbone in CELLS else TransformerDecoderStack
        self.decoder = decoder(config, self.target_vocab_size, self.target_length)

    def __call__(
        self, source: jax.Array, target: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits `[batch, time, target_vocab_size]` under teacher forcing.

        The logits at a position depend on `source [batch, source time]`, padded at its end, and on
        the previous tokens of `target [batch, time]`. Dropout has `dropout_keys [batch]`; None: no
        dropout.
        """
        memory = self.encode(source, dropout_keys=dropout_keys)
        decoder_inputs = jnp.pad(target, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
        return self.decoder(decoder_inputs, memory, dropout_keys=dropout_keys)

    def encode(self, source: jax.Array, *, dropout_keys: jax.Array | None = None) -> Memory:
        """Returns the memory of `source [batch, source time]`."""
        vectors, summary = self.encoder(source, dropout_keys=dropout_keys)
        return Memory(self.memory(vectors), source != PADDING, summary)

    def init_carry(self, source: jax.Array) -> Any:
        """Returns the decoder's initial carry for `source [batch, source time]`."""
        return self.decoder.init_carry(self.encode(source))

    def decode_step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits of the next tokens."""
        return self.decoder.decode_step(carry, tokens)


@dataclasses.dataclass(frozen=True)
class Seq2SeqStepper:
    """Adapts a `Seq2Seq` to `jaxlabs.decoding`; its initial carry holds the encoded source."""

    model: Seq2Seq  #: the model; steppers of equal models are equal

    @property
    def context_length(self) -> int:
        """Maximum target length."""
        return self.model.target_length

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits `[batch, target_vocab_size]`.

        The logits of padding and `<sos>` are -inf.
        """
        carry, logits = self.model.apply({"params": params}, carry, tokens, method="decode_step")
        return carry, logits.at[:, :END].set(-jnp.inf)


@functools.partial(jax.jit, static_argnames=("model", "beam_size"))
def translate(
    model: Seq2Seq, params: Any, source: jax.Array, *, beam_size: int, length_penalty: float = 0.0
) -> Beams:
    """Translates `source [batch, source time]`, from `<sos>` to `<eos>`; see `beam_search`."""
    carry = model.apply({"params": params}, source, method="init_carry")
    start = jnp.full(source.shape[0], START, jnp.int32)
    return beam_search(
        Seq2SeqStepper(model),
        params,
        start,
        beam_size=beam_size,
        max_new_tokens=model.target_length,
        stop_token=END,
        length_penalty=length_penalty,
        carry=carry,
    )


def loss(
    model: Seq2Seq, variables: Variables, batch: Batch, key: Key, *, train: bool, **_: Any
) -> LossOutput:
    """Sums the cross-entropy of the target words under teacher forcing, in nats.

    The batch holds `inputs [batch, source time]`, `targets` and `weights [batch, time]` and
    `example_index [batch]`. The metrics are `accuracy`, the number of `sentences` and that of
    `sentences_correct`, whose words are all top-1, which are those that greedy decoding translates
    correctly.
    """
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    targets, weights = batch["targets"], batch["weights"]
    logits = model.apply(variables, batch["inputs"], targets, dropout_keys=dropout_keys)
    output = cross_entropy_output(logits, targets, weights)
    valid = weights.max(axis=1) > 0
    correct = (is_top1(logits, targets) | (weights == 0)).all(axis=1)
    output.metric_sums.update(sentences=valid.sum(), sentences_correct=(valid & correct).sum())
    return output


train_step = build_train_step(loss)


def derived_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Returns `exact_match`, the share of sentences whose words are all correct."""
    return {"exact_match": metrics["sentences_correct"] / metrics["sentences"]}
