"""What writes a sequence while it looks at another one: the decoders of `models.seq2seq`.

Both read all places at once in training, and one word after the other through `begin` and `step`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_parts
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.matmul import Dense
from jaxlabs.layers.multi_head_attention import empty_cache
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.rnn import Recurrent
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.layers.transformer import DecoderBlock
from jaxlabs.models.sequence_classifier import SequenceConfig, block_options, embedding, placed


class RNNAttentionDecoder(nn.Module):
    """A recurrent decoder that attends to the memory after every step (Luong et al. 2015).

    Attributes:
      config: see `SequenceConfig`.
      tokens: how many words and marks there are to write.
      length: longest sequence; not needed.
    """

    config: SequenceConfig
    tokens: int
    length: int

    def setup(self):
        config, embed_dim = self.config, self.config.embed_dim
        precision = config.matmul_precision
        self.embedding = embedding(config, self.tokens)
        self.embedding_dropout = Dropout(config.dropout)
        self.recurrent = Recurrent(
            cell=config.backbone,
            features=embed_dim,
            hidden_size=embed_dim,
            num_layers=config.depth,
            dropout=config.dropout,
            precision=precision,
        )
        states = config.depth * len(CELLS[config.backbone].state)
        self.first_state = Dense(states * embed_dim, precision=precision)
        self.score = Dense(embed_dim, use_bias=False, precision=precision)
        self.joined = Dense(embed_dim, precision=precision)
        self.joined_dropout = Dropout(config.dropout)
        self.head = Dense(self.tokens, precision=precision)

    def __call__(
        self,
        before: jax.Array,
        memory: jax.Array,
        real: jax.Array,
        summary: jax.Array,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits `[batch, time, tokens]`.

        Args:
          before: [batch, time] the word before each place.
          memory: [batch, source time, embed_dim].
          real: [batch, source time] booleans; False hides the memory's padding.
          summary: [batch, features] of the source.
          dropout_keys: [batch] PRNG keys; None switches dropout off.
        """
        x = self.embedding_dropout(self.embedding(before), dropout_keys)
        x, _ = self.recurrent(x, self._first(summary), dropout_keys=dropout_keys)
        return self._logits(x, memory, real, dropout_keys)

    def begin(self, memory: jax.Array, real: jax.Array, summary: jax.Array) -> Any:
        """Returns the carry before the first step."""
        return {"states": self._first(summary), "memory": memory, "real": real}

    def step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Reads `tokens [batch]`; returns the carry and logits `[batch, tokens]`."""
        x, states = self.recurrent.step(self.embedding(tokens), carry["states"])
        logits = self._logits(x[:, None], carry["memory"], carry["real"], None)[:, 0]
        return carry | {"states": states}, logits

    def _first(self, summary: jax.Array) -> Any:
        per_layer = len(CELLS[self.config.backbone].state)
        parts = jnp.split(jnp.tanh(self.first_state(summary)), self.config.depth * per_layer, -1)
        return tuple(
            tuple(parts[layer * per_layer : (layer + 1) * per_layer])
            for layer in range(self.config.depth)
        )

    def _logits(
        self, x: jax.Array, memory: jax.Array, real: jax.Array, dropout_keys: jax.Array | None
    ) -> jax.Array:
        memory = memory[:, None]  # one head
        # attention_parts divides by the root of the embed_dim, which Luong's score does not.
        query = self.score(x)[:, None] * self.config.embed_dim**0.5
        parts = attention_parts(
            query, memory, memory, masks.padding(real), precision=self.config.matmul_precision
        )
        self.sow("intermediates", "weights", parts.weights)
        joined = jnp.tanh(self.joined(jnp.concatenate([parts.output[:, 0], x], axis=-1)))
        return self.head(self.joined_dropout(joined, dropout_keys))


class TransformerDecoderStack(nn.Module):
    """A stack of decoder blocks; methods as `RNNAttentionDecoder` has them.

    Attributes:
      config: see `SequenceConfig`.
      tokens: how many words and marks there are to write.
      length: longest sequence.
    """

    config: SequenceConfig
    tokens: int
    length: int

    def setup(self):
        config = self.config
        self.embedding = embedding(config, self.tokens)
        self.embedding_dropout = Dropout(config.dropout)
        options = block_options(config, self.length)
        self.blocks = [DecoderBlock(**options) for _ in range(config.depth)]
        self.final_norm = build_norm("layernorm")
        self.head = Dense(self.tokens, precision=config.matmul_precision)

    def __call__(
        self,
        before: jax.Array,
        memory: jax.Array,
        real: jax.Array,
        summary: jax.Array,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        x = placed(self.embedding(before), 0, self.length, self.config)
        x = self.embedding_dropout(x, dropout_keys)
        mask, memory_mask = masks.causal(before.shape[1]), masks.padding(real)
        for block in self.blocks:
            x = block(x, memory, mask, memory_mask, dropout_keys=dropout_keys)
        return self.head(self.final_norm(x))

    def begin(self, memory: jax.Array, real: jax.Array, summary: jax.Array) -> Any:
        config = self.config
        cache = empty_cache(
            len(memory), config.num_heads, self.length, config.embed_dim, memory.dtype
        )
        return {
            "caches": [cache] * config.depth,
            "memories": [block.remember(memory) for block in self.blocks],
            "real": real,
            "position": jnp.zeros((), jnp.int32),
        }

    def step(self, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        position, memory_mask = carry["position"], masks.padding(carry["real"])
        x = placed(self.embedding(tokens)[:, None], position, self.length, self.config)
        mask = masks.cached(position, self.length)
        caches = []
        for block, cache, memory in zip(
            self.blocks, carry["caches"], carry["memories"], strict=True
        ):
            x, cache = block.decode(x, cache, memory, position, mask, memory_mask)
            caches.append(cache)
        logits = self.head(self.final_norm(x))[:, 0]
        return carry | {"caches": caches, "position": position + 1}, logits
