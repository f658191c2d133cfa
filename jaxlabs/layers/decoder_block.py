"""The decoder block of an encoder-decoder Transformer (Vaswani et al. 2017, figure 1, right)."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import KVCache, Mask, MultiHeadAttention
from jaxlabs.layers.normalization import build_norm


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention and a feed-forward network, each with a residual.

    Pre-norm as in `jaxlabs.layers.transformer.EncoderBlock`, with a ReLU.
    """

    embed_dim: int  #: embedding size, also of the memory
    num_heads: int  #: number of attention heads
    mlp_dim: int  #: hidden size of the feed-forward network
    length: int  #: longest sequence, see `MultiHeadAttention`
    #: position encoding of self-attention, see `MultiHeadAttention`; cross-attention has none
    positions: str = "none"
    dropout: float = 0.0  #: dropout rate of attention weights and sub-layer outputs
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    def setup(self):
        options = {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "length": self.length}
        options |= {"dropout": self.dropout, "precision": self.precision, "dtype": self.dtype}
        self.attention_norm = build_norm("layernorm", dtype=self.dtype)
        self.attention = MultiHeadAttention(positions=self.positions, **options)
        self.attention_dropout = Dropout(self.dropout)
        self.memory_norm = build_norm("layernorm", dtype=self.dtype)
        self.memory_attention = CrossAttention(**options)
        self.memory_dropout = Dropout(self.dropout)
        self.ffn_norm = build_norm("layernorm", dtype=self.dtype)
        self.ffn = FeedForward(self.mlp_dim, precision=self.precision, dtype=self.dtype)
        self.ffn_dropout = Dropout(self.dropout)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        mask: Mask = None,
        memory_mask: Mask = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`.

        Args:
          x: the embedded target.
          memory: [batch, memory_time, embed_dim], the encoder output.
          mask: of self-attention, `layers.masks.causal` or an `AttentionMask`.
          memory_mask: padding mask of the memory, `layers.masks.padding`.
          dropout_keys: [batch] PRNG keys; None switches dropout off.
        """

        def attend(x: jax.Array) -> jax.Array:
            return self.attention(x, mask, dropout_keys=dropout_keys)

        memory_cache = self.memory_attention.project_memory(memory)
        return self._sub_layers(x, attend, memory_cache, memory_mask, dropout_keys)

    def project_memory(self, memory: jax.Array) -> KVCache:
        """Returns the keys and values of `memory [batch, memory_time, embed_dim]`."""
        return self.memory_attention.project_memory(memory)

    def decode(
        self,
        x: jax.Array,
        cache: KVCache,
        memory: KVCache,
        position: jax.Array,
        mask: jax.Array,
        memory_mask: jax.Array,
    ) -> tuple[jax.Array, KVCache]:
        """Decodes one token `x [batch, 1, embed_dim]`, see `MultiHeadAttention.decode`."""
        attended, new_cache = self.attention.decode(self.attention_norm(x), cache, position, mask)
        return self._sub_layers(x, lambda x: attended, memory, memory_mask, None), new_cache

    def _sub_layers(
        self,
        x: jax.Array,
        attend: Callable[[jax.Array], jax.Array],
        memory: KVCache,
        memory_mask: Mask,
        dropout_keys: jax.Array | None,
    ) -> jax.Array:
        def cross_attend(x: jax.Array) -> jax.Array:
            return self.memory_attention.cross_attend(
                x, memory, memory_mask, dropout_keys=dropout_keys
            )

        for function, norm, dropout in [
            (attend, self.attention_norm, self.attention_dropout),
            (cross_attend, self.memory_norm, self.memory_dropout),
            (self.ffn, self.ffn_norm, self.ffn_dropout),
        ]:
            x = x + dropout(function(norm(x)), dropout_keys)
        return x


class CrossAttention(MultiHeadAttention):
    """`MultiHeadAttention` whose keys and values come from a memory, without positions."""

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        mask: Mask = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Attends from `x` to `memory [batch, memory_time, embed_dim]`; see `cross_attend`."""
        return self.cross_attend(x, self.project_memory(memory), mask, dropout_keys=dropout_keys)

    def project_memory(self, memory: jax.Array) -> KVCache:
        """Returns the keys and values of `memory [batch, memory_time, embed_dim]`."""
        return KVCache(*self._project_heads(memory, 1, 2))

    def cross_attend(
        self,
        x: jax.Array,
        memory: KVCache,
        mask: Mask = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`.

        Args:
          x: the source of the queries.
          memory: the projected memory.
          mask: of the memory's padding, see `layers.masks.padding`.
          dropout_keys: [batch] PRNG keys; None switches dropout off.

        Raises:
          ValueError: relative positions or a local mask, which need the distance of query and key.
        """
        if self.positions in ("rotary", "alibi") or isinstance(mask, AttentionMask):
            relative = mask if isinstance(mask, AttentionMask) else f"{self.positions} positions"
            raise ValueError(f"{relative}: not accepted in cross-attention")
        return self._attend(*self._project_heads(x, 0), memory, mask, dropout_keys)
