"""Multi-head self-attention (Vaswani et al. 2017, section 3.2.2), over a sequence or a KV cache."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxlabs.layers import positions
from jaxlabs.layers.attention import attention_output
from jaxlabs.layers.cpu import dispatch
from jaxlabs.layers.cpu.masked_attention import masked_attention
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.dtypes import cast
from jaxlabs.layers.initializers import LINEN, Initializer, TransformerInitializers
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.matmul import dot_general, matmul
from jaxlabs.layers.normalization import EPSILON
from jaxlabs.layers.remat import keep_linear

Mask = jax.Array | AttentionMask | None
"""A boolean mask (`layers.masks`), a causal or local mask that is not materialized, or no mask."""


@flax.struct.dataclass
class KVCache:
    """Keys and values of all positions so far, each `[batch, heads, length, head_dim]`."""

    key: jax.Array
    value: jax.Array


def empty_cache(
    batch: int, num_heads: int, length: int, embed_dim: int, dtype: Any = jnp.float32
) -> KVCache:
    """Returns an empty cache of `length` slots; `dtype` is that of the activations."""
    zeros = jnp.zeros((batch, num_heads, length, embed_dim // num_heads), dtype)
    return KVCache(key=zeros, value=zeros)


class MultiHeadAttention(nn.Module):
    """Self-attention with `num_heads` heads of size `embed_dim / num_heads`.

    Not `nn.MultiHeadDotProductAttention`, which has neither dropout by example nor masks that are
    not materialized. `weights` and `scores` (see `AttentionOutput`) are sown into the collection
    "intermediates" when the caller makes it mutable; only then an `AttentionMask` is materialized.

    Raises:
      ValueError: `num_heads` does not divide `embed_dim`.
    """

    embed_dim: int  #: embedding size
    num_heads: int  #: number of heads; divides `embed_dim`
    length: int  #: longest sequence: rows of the rotary tables and slots of a cache
    #: "rotary" rotates queries and keys, "alibi" adds a bias to the scores; other encodings are not
    #: applied here
    positions: str = "none"
    #: whether queries and keys are RMS-normalized per head (Henry et al. 2020)
    qk_norm: bool = False
    qkv_bias: bool = False  #: whether the three input projections have a bias
    out_bias: bool = True  #: whether the output projection has one
    #: of all projections; that of the output writes to the residual stream
    initializers: TransformerInitializers = LINEN
    dropout: float = 0.0  #: dropout rate of the attention weights
    precision: str = "default"  #: see `jaxlabs.layers.matmul`
    dtype: DTypeLike | None = None  #: of the result; see `jaxlabs.layers.dtypes`

    def setup(self):
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads do not divide an embed_dim of {self.embed_dim}"
            )

        def params(kind: str, init: Initializer, *shape: int) -> list[jax.Array]:
            names = (f"{name}_{kind}" for name in ("query", "key", "value"))
            return [self.param(name, init, shape, jnp.float32) for name in names]

        bias_init = self.initializers.bias(self.embed_dim)
        self.kernels = params("kernel", self.initializers.kernel, self.embed_dim, self.embed_dim)
        self.biases = params("bias", bias_init, self.embed_dim) if self.qkv_bias else []
        self.head_norm = nn.RMSNorm(epsilon=EPSILON, use_scale=False)
        self.weight_dropout = Dropout(self.dropout)
        self.out = nn.Dense(
            self.embed_dim,
            use_bias=self.out_bias,
            kernel_init=self.initializers.residual,
            bias_init=bias_init,
            dtype=self.dtype,
            dot_general=dot_general(self.precision),
        )

    def __call__(
        self, x: jax.Array, mask: Mask = None, *, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`."""
        query, *key_value = self._project_qkv(x, 0)
        return self._attend(query, KVCache(*key_value), mask, dropout_keys)

    def prefill(self, x: jax.Array, mask: Mask = None) -> tuple[jax.Array, KVCache]:
        """Returns the self-attention output and the cache filled with the positions of `x`."""
        query, key, value = self._project_qkv(x, 0)
        free = [(0, 0), (0, 0), (0, self.length - x.shape[1]), (0, 0)]
        cache = KVCache(jnp.pad(key, free), jnp.pad(value, free))
        return self._attend(query, KVCache(key, value), mask, None), cache

    def decode(
        self, x: jax.Array, cache: KVCache, position: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, KVCache]:
        """Attends from one new token `x [batch, 1, embed_dim]` to the cache and itself.

        Its `position []` is below `length`; the mask of the slots is `layers.masks.decode_mask`.
        """

        def write(old: jax.Array, new: jax.Array) -> jax.Array:
            return lax.dynamic_update_slice_in_dim(old, new, position, axis=2)

        query, *new = self._project_qkv(x, position)
        # Otherwise XLA fuses the write into the matmuls that read the cache, and copies the cache.
        cache = lax.optimization_barrier(jax.tree.map(write, cache, KVCache(*new)))
        return self._attend(query, cache, mask, None, position), cache

    def _project_qkv(self, x: jax.Array, offset: int | jax.Array) -> list[jax.Array]:
        """Returns query, key and value of positions from `offset` on, see `_project_heads`."""
        query, key, value = self._project_heads(x, 0, 1, 2)
        if self.positions == "rotary":
            time = x.shape[1]
            tables = positions.rope_tables(self.length, self.embed_dim // self.num_heads)
            rows = [lax.dynamic_slice_in_dim(jnp.asarray(table), offset, time) for table in tables]
            query, key = positions.apply_rope(query, *rows), positions.apply_rope(key, *rows)
        return [query, key, value]

    def _project_heads(self, x: jax.Array, *which: int) -> list[jax.Array]:
        """Returns some of query (0), key (1) and value (2), each `[batch, heads, time, head_dim]`.

        On CPUs one matmul for all of them: the kernels are concatenated at run time, since the
        optimizer needs three matrices. Elsewhere one each, so that a mesh can split the heads.
        """
        kernels = [self.kernels[index] for index in which]
        x, *kernels = nn.dtypes.promote_dtype(x, *kernels, dtype=self.dtype)
        joined = functools.partial(joined_projections, self.precision)
        separate = functools.partial(separate_projections, self.precision)
        y = keep_linear(dispatch.by_platform(x, *kernels, cpu=joined, default=separate))
        if self.qkv_bias:
            bias = jnp.stack([self.biases[index] for index in which])
            y = y + cast(bias, self.dtype)[None, None]
        shape = *x.shape[:2], len(which), self.num_heads, self.embed_dim // self.num_heads
        heads = y.reshape(shape).transpose(0, 2, 3, 1, 4)
        # Indexing would pad the gradients and add them; that of a split is one concatenation.
        split = [part.squeeze(1) for part in jnp.split(heads, len(which), axis=1)]
        if self.qk_norm:
            normed = zip(which, split, strict=True)
            split = [self.head_norm(each) if index < 2 else each for index, each in normed]
        return split

    def _attend(
        self, query: jax.Array, kv: KVCache, mask: Mask, keys: jax.Array | None, offset: Any = 0
    ) -> jax.Array:
        """Attends and projects the heads to `[batch, time, embed_dim]`."""
        batch, _, time, _ = query.shape
        slopes = positions.alibi_slopes(self.num_heads) if self.positions == "alibi" else None
        drops = keys is not None and self.dropout > 0
        drop = functools.partial(self.weight_dropout, keys=keys) if drops else None
        options = {"dropout": drop, "precision": self.precision}
        sows = self.is_mutable_collection("intermediates")
        if isinstance(mask, AttentionMask) and not sows:
            heads = masked_attention(query, kv.key, kv.value, mask, slopes=slopes, **options)
        else:
            bias = None
            if slopes is not None:
                index = offset + jnp.arange(time)
                bias = positions.alibi_bias(slopes, index, jnp.arange(kv.key.shape[2]))
            mask = mask.to_array(time) if isinstance(mask, AttentionMask) else mask
            attention = attention_output(query, kv.key, kv.value, mask, bias=bias, **options)
            self.sow("intermediates", "weights", attention.weights)
            self.sow("intermediates", "scores", attention.scores)
            heads = attention.output
        return self.out(heads.swapaxes(1, 2).reshape(batch, time, self.embed_dim))


def joined_projections(precision: str, x: jax.Array, *kernels: jax.Array) -> jax.Array:
    """Returns `[batch, time, kernels, embed_dim]` by one matmul; not splittable by heads."""
    y = matmul(x, jnp.concatenate(kernels, axis=1), precision)
    return y.reshape(*x.shape[:2], len(kernels), kernels[0].shape[1])


def separate_projections(precision: str, x: jax.Array, *kernels: jax.Array) -> jax.Array:
    """Returns `[batch, time, kernels, embed_dim]` by a matmul per kernel."""
    return jnp.stack([matmul(x, kernel, precision) for kernel in kernels], axis=2)
