"""Unaligned many to many: an encoder reads a sentence, a decoder writes another one.

Recurrent (Sutskever et al. 2014, with Luong et al. 2015's global attention) or a Transformer
(Vaswani et al. 2017). Shapes with the settings of the experiment:

    source                     [batch, source time]             words, <eos>, padding
    encoder                    [batch, source time, embed_dim]      reads both ways: the memory
    target                     [batch, time]                    shifted: <sos>, then the words
    decoder
      rnn | lstm | gru         [batch, time, embed_dim]             begins with the encoder's
        summary attention              softmax over the source of h_t W m_s; the mean memory c_t
        output                 tanh(W [c_t; h_t])
      transformer              blocks: causal self-attention, attention to the memory, feed-forward
    logits                     [batch, time, target words]

Training reads the right words before each place (teacher forcing, Williams and Zipser 1989), all
places at once; translating goes word by word, see `Seq2SeqStepper`.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.decoding.beam import Beams, beam_search
from jaxlabs.layers.matmul import Dense
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.losses.cross_entropy import is_top1, scored
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.models.seq2seq_decoders import RNNAttentionDecoder, TransformerDecoderStack
from jaxlabs.models.sequence_classifier import PADDING, Reader, SequenceConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.step import build_train_step

START, END = 1, 2


class Seq2Seq(nn.Module):
    """Sentences in, logits of their translations out.

    Attributes:
      config: see `SequenceConfig`.
      source_tokens: how many words and marks the source language has.
      target_tokens: likewise the target language.
      source_length: longest source, `<eos>` included.
      target_length: longest target, `<eos>` included.
    """

    config: SequenceConfig
    source_tokens: int
    target_tokens: int
    source_length: int
    target_length: int

    def setup(self):
        config = self.config
        self.encoder = Reader(config, self.source_tokens, self.source_length, bidirectional=True)
        self.memory = Dense(config.embed_dim, precision=config.matmul_precision)
        writer = RNNAttentionDecoder if config.backbone in CELLS else TransformerDecoderStack
        self.decoder = writer(config, self.target_tokens, self.target_length)

    def __call__(
        self, source: jax.Array, target: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits `[batch, time, target_tokens]` of every word, given those before it.

        Args:
          source: [batch, source time], padding at the end.
          target: [batch, time]; the logits at a place know only what stands before it.
          dropout_keys: [batch] PRNG keys of the examples; None switches dropout off.
        """
        memory, summary = self.encode(source, dropout_keys=dropout_keys)
        before = jnp.pad(target, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
        return self.decoder(before, memory, source != PADDING, summary, dropout_keys=dropout_keys)

    def encode(
        self, source: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns memory `[batch, source_time, embed_dim]` and summary `[batch, features]`."""
        vectors, summary = self.encoder(source, dropout_keys=dropout_keys)
        return self.memory(vectors), summary

    def begin(self, source: jax.Array) -> Any:
        """Returns what the decoder carries before it has written anything."""
        memory, summary = self.encode(source)
        return self.decoder.begin(memory, source != PADDING, summary)

    def write(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Reads the latest `tokens [batch]`; returns the carry and logits of the next ones."""
        return self.decoder.step(carry, tokens)


@dataclasses.dataclass(frozen=True)
class Seq2SeqStepper:
    """A `Seq2Seq` as `jaxlabs.decoding` wants it; the carry it starts from holds the source.

    Attributes:
      model: the model; equal models make equal translators.
    """

    model: Seq2Seq

    @property
    def context(self) -> int:
        """Longest translation."""
        return self.model.target_length

    def step(self, params: Any, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes in `tokens [batch]`; returns the carry and logits `[batch, target_tokens]`.

        Padding and `<sos>` are no words: they are never written.
        """
        carry, logits = self.model.apply({"params": params}, carry, tokens, method="write")
        return carry, logits.at[:, :END].set(-jnp.inf)


def translate(
    model: Seq2Seq, params: Any, source: jax.Array, beam: int, length_penalty: float = 0.0
) -> Beams:
    """Translates `source [batch, source time]`, from `<sos>` to `<eos>`; see `beam_search`."""
    carry = model.apply({"params": params}, source, method="begin")
    start = jnp.full(source.shape[0], START, jnp.int32)
    return beam_search(
        Seq2SeqStepper(model),
        params,
        start,
        beam_size=beam,
        max_new_tokens=model.target_length,
        stop_token=END,
        length_penalty=length_penalty,
        carry=carry,
    )


def loss(
    params: Any, batch: dict[str, jax.Array], key: jax.Array, state: TrainState, train: bool
) -> LossOutput:
    """Sums the cross-entropy of the target words under teacher forcing, in nats.

    Args:
      params: the model's parameters.
      batch: `inputs [batch, source time]`, `targets` and `weights [batch, time]` and
        `example [batch]`.
      key: the step's key; dropout keys of the examples derive from it and `example`.
      state: holds the model.
      train: whether dropout acts.

    Returns:
      LossOutput whose `sums` hold `accuracy`, and how many `sentences` there are and how many of
      them are `right` in every word, which is how many greedy decoding gets right; so many per
      word.
    """
    dropout_keys = keys.per_example(key, batch["example"]) if train else None
    targets, weights = batch["targets"], batch["weights"]
    inputs = {"params": params}, batch["inputs"], targets
    logits = state.model.apply(*inputs, dropout_keys=dropout_keys)
    parts = scored(logits, targets, weights)
    there = weights.max(axis=1) > 0
    right = (is_top1(logits, targets) | (weights == 0)).all(axis=1)
    parts.sums.update(sentences=there.sum(), sentences_right=(there & right).sum())
    return parts


train_step = build_train_step(loss)


def derive(figures: dict[str, float]) -> dict[str, float]:
    """Returns `exact_match`, the share of sentences that are right in every word."""
    return {"exact_match": figures["sentences_right"] / figures["sentences"]}
