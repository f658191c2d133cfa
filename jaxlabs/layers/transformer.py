"""Transformer blocks: attention and a feed-forward network with residual connections."""

import functools
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
from jax.typing import DTypeLike

from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.feed_forward import FeedForward
from jaxlabs.layers.initializers import LINEN, TransformerInitializers
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import KVCache, Mask, MultiHeadAttention
from jaxlabs.layers.normalization import build_norm
from jaxlabs.layers.short_convolution import ShortConvolution

ConvState = tuple[jax.Array | None, jax.Array | None]
"""Previous inputs of the short convolutions before attention and before the feed-forward network,
`[batch, short_conv_width - 1, embed_dim]`; None: zeros, or no convolutions."""


@flax.struct.dataclass
class BlockCache:
    """Decoding state of a block: the KV cache and the inputs of the short convolutions."""

    attention: KVCache
    conv_state: ConvState


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network; with a causal mask, the block of a GPT.

    Pre-norm: `x + f(norm(x))` (Radford et al. 2019); post-norm: `norm(x + f(x))` (Vaswani et al.
    2017). Dropout applies to the output of `f` and to the attention weights. With a
    `short_conv_width` above 1, `f` starts with a `ShortConvolution`, which is causal under any
    mask and stays within the segments of an `AttentionMask`. Further attributes are those of
    `MultiHeadAttention` and `FeedForward`.
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    length: int
    activation: str = "relu"
    positions: str = "none"
    pre_norm: bool = True  #: see above
    norm: str = "layernorm"  #: "layernorm" or "rmsnorm"
    qk_norm: bool = False
    qkv_bias: bool = False
    #: whether the output projection, the feed-forward network and the norms have biases
    use_bias: bool = True
    initializers: TransformerInitializers = LINEN
    dropout: float = 0.0
    precision: str = "default"
    dtype: DTypeLike | None = None
    #: kernel size of the `ShortConvolution` before attention and before the feed-forward network;
    #: 1: no convolutions
    short_conv_width: int = 1

    def setup(self):
        options = {
            "initializers": self.initializers,
            "precision": self.precision,
            "dtype": self.dtype,
        }
        self.attention_norm = build_norm(self.norm, self.use_bias, self.dtype)
        self.attention = MultiHeadAttention(
            embed_dim=self.embed_dim,
            num_heads=self.num_heads,
            length=self.length,
            positions=self.positions,
            qk_norm=self.qk_norm,
            qkv_bias=self.qkv_bias,
            out_bias=self.use_bias,
            dropout=self.dropout,
            **options,
        )
        self.attention_dropout = Dropout(self.dropout)
        self.ffn_norm = build_norm(self.norm, self.use_bias, self.dtype)
        self.ffn = FeedForward(self.mlp_dim, self.activation, self.use_bias, **options)
        self.ffn_dropout = Dropout(self.dropout)
        if self.short_conv_width > 1:
            self.attention_convolution = ShortConvolution(self.short_conv_width, self.dtype)
            self.ffn_convolution = ShortConvolution(self.short_conv_width, self.dtype)

    def __call__(
        self, x: jax.Array, mask: Mask = None, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`."""

        def attend(x):
            return self.attention(x, mask, dropout_keys=dropout_keys), None

        segments = mask.segments if isinstance(mask, AttentionMask) else None
        return self._compute(x, attend, (None, None), dropout_keys, segments)[0]

    def prefill(self, x: jax.Array, mask: Mask = None) -> tuple[jax.Array, BlockCache]:
        """Computes the block without dropout; returns the output and the filled cache."""
        attend = functools.partial(self.attention.prefill, mask=mask)
        x, kv_cache, conv_state = self._compute(x, attend, (None, None))
        return x, BlockCache(kv_cache, conv_state)

    def decode(
        self, x: jax.Array, cache: BlockCache, position: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, BlockCache]:
        """Decodes one token `x [batch, 1, embed_dim]`, see `MultiHeadAttention.decode`."""

        def attend(x):
            return self.attention.decode(x, cache.attention, position, mask)

        x, kv_cache, conv_state = self._compute(x, attend, cache.conv_state)
        return x, BlockCache(kv_cache, conv_state)

    def _compute(
        self,
        x: jax.Array,
        attend: Callable[[jax.Array], tuple[jax.Array, KVCache | None]],
        conv_state: ConvState,
        dropout_keys: jax.Array | None = None,
        segments: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None, ConvState]:
        attention_conv_state, ffn_conv_state = conv_state
        y = self.attention_norm(x) if self.pre_norm else x
        if self.short_conv_width > 1:
            y, attention_conv_state = self.attention_convolution(y, attention_conv_state, segments)
        attended, kv_cache = attend(y)
        x = x + self.attention_dropout(attended, dropout_keys)
        x = x if self.pre_norm else self.attention_norm(x)
        y = self.ffn_norm(x) if self.pre_norm else x
        if self.short_conv_width > 1:
            y, ffn_conv_state = self.ffn_convolution(y, ffn_conv_state, segments)
        x = x + self.ffn_dropout(self.ffn(y), dropout_keys)
        x = x if self.pre_norm else self.ffn_norm(x)
        return x, kv_cache, (attention_conv_state, ffn_conv_state)
