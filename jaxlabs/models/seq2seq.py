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
is autoregressive, token by token with `init_carry` and `decode_step`, see `Seq2SeqStepper`.
"""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.data.vocab import END, PADDING, START
from jaxlabs.decoding.beam import Beams, beam_search
from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.decoder_block import DecoderBlock
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.multi_head_attention import empty_cache
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.remat import rematerialize
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.losses.cross_entropy import cross_entropy_output, is_top1
from jaxlabs.losses.loss_output import Batch, Key, LossOutput, Variables
from jaxlabs.models.sequence_classifier import (
    SequenceConfig,
    SequenceEncoder,
    add_positions,
    block_options,
    embedding,
    recurrent,
)
from jaxlabs.training.step import build_train_step


class Memory(NamedTuple):
    """The encoded source."""

    vectors: jax.Array  #: [batch, source time, embed_dim], one for each token
    valid: jax.Array  #: [batch, source time] booleans; False for padding
    summary: jax.Array  #: [batch, features], see `SequenceEncoder`


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
        multiply = dot_general(config.matmul_precision)
        self.memory = nn.Dense(config.embed_dim, dtype=config.dtype, dot_general=multiply)
        decoder = RNNAttentionDecoder if config.backbone in CELLS else TransformerDecoderStack
        self.decoder = decoder(config, self.target_vocab_size, self.target_length)

    def __call__(
        self, source: jax.Array, target: jax.Array, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits `[batch, time, target_vocab_size]` under teacher forcing.

        The logits at a position depend on `source [batch, source time]`, padded at its end, and on
        the previous tokens of `target [batch, time]`. `dropout_keys [batch]` are PRNG keys of the
        examples; None: no dropout.
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


class RNNAttentionDecoder(nn.Module):
    """A recurrent decoder with global attention to the memory (Luong et al. 2015)."""

    config: SequenceConfig
    vocab_size: int  #: target vocabulary size, with special tokens
    length: int  #: maximum target length; not used

    def setup(self):
        config, embed_dim = self.config, self.config.embed_dim
        multiply = dot_general(config.matmul_precision)
        dense = functools.partial(nn.Dense, dtype=config.dtype, dot_general=multiply)
        output = functools.partial(nn.Dense, dot_general=dot_general(config.output_precision))
        self.embedding = embedding(config, self.vocab_size)
        self.embedding_dropout = Dropout(config.dropout)
        self.recurrent = recurrent(config)
        states = config.depth * len(CELLS[config.backbone].state)
        self.first_state = output(states * embed_dim)
        self.score = dense(embed_dim, use_bias=False)
        self.joined = dense(embed_dim)
        self.joined_dropout = Dropout(config.dropout)
        self.head = output(self.vocab_size)

    def __call__(
        self, decoder_inputs: jax.Array, memory: Memory, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits `[batch, time, vocab_size]`; the inputs are the targets, shifted right."""
        x = self.embedding_dropout(self._embed(decoder_inputs), dropout_keys)
        x, _ = self.recurrent(x, self._initial_states(memory.summary), dropout_keys=dropout_keys)
        return self._logits(x, memory.vectors, memory.valid, dropout_keys)

    def init_carry(self, memory: Memory) -> Any:
        """Returns the initial carry of `decode_step`."""
        states = self._initial_states(memory.summary)
        return {"states": states, "memory": memory.vectors, "memory_valid": memory.valid}

    def decode_step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits `[batch, vocab_size]`."""
        x, states = self.recurrent.step(self._embed(tokens), carry["states"])
        logits = self._logits(x[:, None], carry["memory"], carry["memory_valid"], None)[:, 0]
        return carry | {"states": states}, logits

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return cast(self.embedding(tokens), self.config.dtype)

    def _initial_states(self, summary: jax.Array) -> Any:
        depth, per_layer = self.config.depth, len(CELLS[self.config.backbone].state)
        states = iter(jnp.split(jnp.tanh(self.first_state(summary)), depth * per_layer, -1))
        return tuple(tuple(itertools.islice(states, per_layer)) for _ in range(depth))

    def _logits(
        self,
        x: jax.Array,
        memory: jax.Array,
        memory_valid: jax.Array,
        dropout_keys: jax.Array | None,
    ) -> jax.Array:
        memory = memory[:, None]  # one head
        # attention_output divides by sqrt(embed_dim), Luong's score does not.
        query = self.score(x)[:, None] * self.config.embed_dim**0.5
        mask = masks.padding(memory_valid)
        precision = self.config.matmul_precision
        attention = attention_output(query, memory, memory, mask, precision=precision)
        self.sow("intermediates", "weights", attention.weights)
        context = attention.output[:, 0]
        attentional = jnp.tanh(self.joined(jnp.concatenate([context, x], axis=-1)))
        return self.head(self.joined_dropout(attentional, dropout_keys))


class TransformerDecoderStack(nn.Module):
    """A stack of Transformer decoder blocks; same methods as `RNNAttentionDecoder`."""

    config: SequenceConfig
    vocab_size: int  #: target vocabulary size, with special tokens
    length: int  #: maximum target length

    def setup(self):
        config = self.config
        self.embedding = embedding(config, self.vocab_size)
        self.embedding_dropout = Dropout(config.dropout)
        options = block_options(config, self.length)
        block = rematerialize(DecoderBlock, config.remat)
        self.blocks = [block(**options) for _ in range(config.depth)]
        self.final_norm = build_norm("layernorm", dtype=config.dtype)
        self.head = nn.Dense(self.vocab_size, dot_general=dot_general(config.output_precision))

    def __call__(
        self, decoder_inputs: jax.Array, memory: Memory, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        x = add_positions(self.embedding(decoder_inputs), 0, self.length, self.config)
        x = self.embedding_dropout(x, dropout_keys)
        mask, memory_mask = masks.causal(decoder_inputs.shape[1]), masks.padding(memory.valid)
        for block in self.blocks:
            x = block(x, memory.vectors, mask, memory_mask, dropout_keys=dropout_keys)
        return self.head(self.final_norm(x))

    def init_carry(self, memory: Memory) -> Any:
        config, vectors = self.config, memory.vectors
        sizes = len(vectors), config.num_heads, self.length, config.embed_dim
        return {
            "caches": [empty_cache(*sizes, vectors.dtype)] * config.depth,
            "memories": [block.project_memory(vectors) for block in self.blocks],
            "memory_valid": memory.valid,
            "position": jnp.zeros((), jnp.int32),
        }

    def decode_step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        position, memory_mask = carry["position"], masks.padding(carry["memory_valid"])
        x = add_positions(self.embedding(tokens)[:, None], position, self.length, self.config)
        mask = masks.decode_mask(position, self.length)
        caches = []
        layers = zip(self.blocks, carry["caches"], carry["memories"], strict=True)
        for block, cache, memory in layers:
            x, cache = block.decode(x, cache, memory, position, mask, memory_mask)
            caches.append(cache)
        logits = self.head(self.final_norm(x))[:, 0]
        return carry | {"caches": caches, "position": position + 1}, logits


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
    """Returns `exact_match`, the fraction of sentences whose words are all correct."""
    return {"exact_match": metrics["sentences_correct"] / metrics["sentences"]}
