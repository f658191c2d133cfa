"""The Transformer's blocks: attention and a feed-forward network, each with a residual."""

import functools
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.matmul import Initializer
from jaxlabs.layers.multi_head_attention import KVCache, Mask, MultiHeadAttention, empty_cache
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.short_convolution import ShortConvolution

Before = tuple[jax.Array | None, jax.Array | None]
"""The inputs before of the convolutions of attention and of feed-forward; None: zeros."""


@flax.struct.dataclass
class BlockCache:
    """What a block keeps of the positions so far.

    Attributes:
      attention: keys and values.
      before: what the convolutions of attention and of feed-forward read last, each
        `[batch, short_conv_width - 1, embed_dim]`; Nones if there are no convolutions.
    """

    attention: KVCache
    before: Before


def empty_block_cache(
    batch: int, num_heads: int, length: int, embed_dim: int, short_conv_width: int
) -> BlockCache:
    """Returns a float32 cache of `length` slots that holds nothing yet."""
    nothing = (
        jnp.zeros((batch, short_conv_width - 1, embed_dim), jnp.float32)
        if short_conv_width > 1
        else None
    )
    return BlockCache(empty_cache(batch, num_heads, length, embed_dim), (nothing, nothing))


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward; under a causal mask it is the block of a GPT.

    Pre-norm: `x + f(norm(x))` (Radford et al. 2019); post-norm: `norm(x + f(x))` (Vaswani et al.
    2017). Dropout acts on `f`'s output, and inside attention on the weights. With a
    `short_conv_width` above 1, `f` begins with a `ShortConvolution`, which looks back whatever the
    mask is.

    Attributes:
      embed_dim: size of a token's vector.
      heads: number of attention heads.
      mlp_dim: size of the feed-forward network's hidden layer.
      length: longest sequence, see `MultiHeadAttention`.
      activation: of the feed-forward network.
      positions: see `MultiHeadAttention`.
      pre_norm: see above.
      norm: "layernorm" or "rmsnorm".
      qk_norm: see `MultiHeadAttention`.
      qkv_bias: see `MultiHeadAttention`.
      use_bias: biases of the output projection, the feed-forward network and the norms.
      kernel_init: initializer of kernels.
      out_init: initializer of the two kernels that write to the residual.
      dropout: rate.
      precision: see `jaxlabs.layers.matmul`.
      bias_init_scale: of the biases at the start, see `jaxlabs.layers.matmul.Dense`.
      short_conv_width: of each `ShortConvolution` at the entry of attention and feed-forward; 1:
        none.
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    length: int
    activation: str = "relu"
    positions: str = "none"
    pre_norm: bool = True
    norm: str = "layernorm"
    qk_norm: bool = False
    qkv_bias: bool = False
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_init: Initializer = nn.initializers.lecun_normal()
    dropout: float = 0.0
    precision: str = "default"
    bias_init_scale: float = 0.0
    short_conv_width: int = 1

    def setup(self):
        self.attention_norm = build_norm(self.norm, self.use_bias)
        self.attention = MultiHeadAttention(
            embed_dim=self.embed_dim,
            num_heads=self.num_heads,
            length=self.length,
            positions=self.positions,
            qk_norm=self.qk_norm,
            qkv_bias=self.qkv_bias,
            out_bias=self.use_bias,
            kernel_init=self.kernel_init,
            out_init=self.out_init,
            dropout=self.dropout,
            precision=self.precision,
            bias_init_scale=self.bias_init_scale,
        )
        self.attention_dropout = Dropout(self.dropout)
        self.ffn_norm = build_norm(self.norm, self.use_bias)
        self.ffn = FeedForward(
            mlp_dim=self.mlp_dim,
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            out_init=self.out_init,
            precision=self.precision,
            bias_init_scale=self.bias_init_scale,
        )
        self.ffn_dropout = Dropout(self.dropout)
        if self.short_conv_width > 1:
            self.attention_convolution = ShortConvolution(self.short_conv_width)
            self.ffn_convolution = ShortConvolution(self.short_conv_width)

    def __call__(
        self,
        x: jax.Array,
        mask: Mask = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`."""

        def attend(x):
            return self.attention(x, mask, dropout_keys=dropout_keys), None

        return self._compute(x, attend, (None, None), dropout_keys)[0]

    def prefill(self, x: jax.Array, mask: Mask = None) -> tuple[jax.Array, BlockCache]:
        """Computes the block without dropout and returns the cache of these positions as well."""
        attend = functools.partial(self.attention.prefill, mask=mask)
        x, kept, before = self._compute(x, attend, (None, None))
        return x, BlockCache(kept, before)

    def decode(
        self, x: jax.Array, cache: BlockCache, position: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, BlockCache]:
        """Decodes one token `x [batch, 1, embed_dim]`, see `MultiHeadAttention.decode`."""

        def attend(x):
            return self.attention.decode(x, cache.attention, position, mask)

        x, kept, before = self._compute(x, attend, cache.before)
        return x, BlockCache(kept, before)

    def _compute(
        self,
        x: jax.Array,
        attend: Callable[[jax.Array], tuple[jax.Array, KVCache | None]],
        before: Before,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None, Before]:
        before_attention, before_ffn = before
        y = self.attention_norm(x) if self.pre_norm else x
        if self.short_conv_width > 1:
            y, before_attention = self.attention_convolution(y, before_attention)
        attended, kept = attend(y)
        x = x + self.attention_dropout(attended, dropout_keys)
        x = x if self.pre_norm else self.attention_norm(x)
        y = self.ffn_norm(x) if self.pre_norm else x
        if self.short_conv_width > 1:
            y, before_ffn = self.ffn_convolution(y, before_ffn)
        x = x + self.ffn_dropout(self.ffn(y), dropout_keys)
        x = x if self.pre_norm else self.ffn_norm(x)
        return x, kept, (before_attention, before_ffn)


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to a memory, feed-forward; a residual around each.

    Vaswani et al. 2017, figure 1, right; with `pre_norm` the norms stand before the sub-layers, see
    `EncoderBlock`, which has the attributes in common.

    Attributes:
      embed_dim: size of a token's vector, and of the memory's.
      heads: number of attention heads.
      mlp_dim: size of the feed-forward network's hidden layer.
      length: longest sequence, see `MultiHeadAttention`.
      activation: of the feed-forward network.
      positions: of self-attention, see `MultiHeadAttention`; the memory has none.
      pre_norm: whether norms stand before sub-layers and not after them.
      dropout: rate on attention weights and sub-layer outputs.
      precision: see `jaxlabs.layers.matmul`.
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    length: int
    activation: str = "relu"
    positions: str = "none"
    pre_norm: bool = True
    dropout: float = 0.0
    precision: str = "default"

    def setup(self):
        options = {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "length": self.length}
        options |= {"dropout": self.dropout, "precision": self.precision}
        self.attention_norm = build_norm("layernorm")
        self.attention = MultiHeadAttention(positions=self.positions, **options)
        self.attention_dropout = Dropout(self.dropout)
        self.memory_norm = build_norm("layernorm")
        self.memory_attention = MultiHeadAttention(**options)
        self.memory_dropout = Dropout(self.dropout)
        self.ffn_norm = build_norm("layernorm")
        self.ffn = FeedForward(self.mlp_dim, self.activation, precision=self.precision)
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
          x: the sequence so far.
          memory: [batch, memory_time, embed_dim] what the encoder made of the source.
          mask: of self-attention, `layers.masks.causal` or a `AttentionMask`.
          memory_mask: hides the memory's padding, `layers.masks.padding`.
          dropout_keys: [batch] PRNG keys; None switches dropout off.
        """

        def attend(x: jax.Array) -> jax.Array:
            return self.attention(x, mask, dropout_keys=dropout_keys)

        kept = self.memory_attention.remember(memory)
        return self._sub_layers(x, attend, kept, memory_mask, dropout_keys)

    def remember(self, memory: jax.Array) -> KVCache:
        """Returns keys and values of `memory [batch, memory_time, embed_dim]`, once a source."""
        return self.memory_attention.remember(memory)

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
        attended, new_cache = self.attention.decode(
            self.attention_norm(x) if self.pre_norm else x, cache, position, mask
        )
        return self._sub_layers(x, lambda x: attended, memory, memory_mask, None), new_cache

    def _sub_layers(
        self,
        x: jax.Array,
        attend: Callable[[jax.Array], jax.Array],
        memory: KVCache,
        memory_mask: Mask,
        dropout_keys: jax.Array | None,
    ) -> jax.Array:
        def recall(x: jax.Array) -> jax.Array:
            return self.memory_attention.recall(x, memory, memory_mask, dropout_keys=dropout_keys)

        for function, norm, dropout in [
            (attend, self.attention_norm, self.attention_dropout),
            (recall, self.memory_norm, self.memory_dropout),
            (self.ffn, self.ffn_norm, self.ffn_dropout),
        ]:
            if self.pre_norm:
                x = x + dropout(function(norm(x)), dropout_keys)
            else:
                x = norm(x + dropout(function(x), dropout_keys))
        return x
