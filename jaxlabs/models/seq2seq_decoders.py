"""The decoders of `models.seq2seq`: an RNN with attention and a Transformer.

Training computes all positions in parallel; `init_carry` and `decode_step` decode token by token.
"""

import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.decoder_block import DecoderBlock
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.matmul import dot_general
from jaxlabs.layers.multi_head_attention import empty_cache
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.models.sequence_classifier import (
    SequenceConfig,
    add_positions,
    block_options,
    embedding,
)


class Memory(NamedTuple):
    """The encoded source.

    Attributes:
      vectors: [batch, source time, embed_dim].
      valid: [batch, source time] booleans; False for padding.
      summary: [batch, features].
    """

    vectors: jax.Array
    valid: jax.Array
    summary: jax.Array


class RNNAttentionDecoder(nn.Module):
    """A recurrent decoder with global attention to the memory (Luong et al. 2015)."""

    config: SequenceConfig
    vocab_size: int  #: target vocabulary size, with special tokens
    length: int  #: maximum target length; not used

    def setup(self):
        config, embed_dim = self.config, self.config.embed_dim
        dense = functools.partial(nn.Dense, dot_general=dot_general(config.matmul_precision))
        self.embedding = embedding(config, self.vocab_size)
        self.embedding_dropout = Dropout(config.dropout)
        self.recurrent = Recurrent(
            cell=config.backbone,
            features=embed_dim,
            hidden_size=embed_dim,
            num_layers=config.depth,
            dropout=config.dropout,
            precision=config.matmul_precision,
        )
        states = config.depth * len(CELLS[config.backbone].state)
        self.first_state = dense(states * embed_dim)
        self.score = dense(embed_dim, use_bias=False)
        self.joined = dense(embed_dim)
        self.joined_dropout = Dropout(config.dropout)
        self.head = dense(self.vocab_size)

    def __call__(
        self, decoder_inputs: jax.Array, memory: Memory, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits `[batch, time, vocab_size]`; the inputs are the targets, shifted right.

        Dropout has `dropout_keys [batch]`; None: no dropout.
        """
        x = self.embedding_dropout(self.embedding(decoder_inputs), dropout_keys)
        x, _ = self.recurrent(x, self._initial_states(memory.summary), dropout_keys=dropout_keys)
        return self._logits(x, memory.vectors, memory.valid, dropout_keys)

    def init_carry(self, memory: Memory) -> Any:
        """Returns the initial carry of `decode_step`."""
        states = self._initial_states(memory.summary)
        return {"states": states, "memory": memory.vectors, "memory_valid": memory.valid}

    def decode_step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Takes `tokens [batch]`; returns the carry and logits `[batch, vocab_size]`."""
        x, states = self.recurrent.step(self.embedding(tokens), carry["states"])
        logits = self._logits(x[:, None], carry["memory"], carry["memory_valid"], None)[:, 0]
        return carry | {"states": states}, logits

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
        self.blocks = [DecoderBlock(**options) for _ in range(config.depth)]
        self.final_norm = build_norm("layernorm")
        self.head = nn.Dense(self.vocab_size, dot_general=dot_general(config.matmul_precision))

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
