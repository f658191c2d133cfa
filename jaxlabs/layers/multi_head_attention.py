"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): to itself, a memory or a cache."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from jaxlabs.layers import positions
from jaxlabs.layers.attention import attention_parts
from jaxlabs.layers.dropout import Dropout
from jaxlabs.layers.local_attention import AttentionMask
from jaxlabs.layers.matmul import Dense, Initializer, matmul, within
from jaxlabs.layers.normalization import rms_norm

Mask = jax.Array | AttentionMask | None
"""Who may see whom: booleans (`layers.masks`), a window that is not spelled out, or everyone."""


@flax.struct.dataclass
class KVCache:
    """Keys and values of the positions so far, each `[batch, heads, length, head_dim]`."""

    key: jax.Array
    value: jax.Array


def empty_cache(
    batch: int, num_heads: int, length: int, embed_dim: int, dtype: Any = jnp.float32
) -> KVCache:
    """Returns a cache of `length` slots that holds nothing yet; `dtype` is the activations'."""
    zeros = jnp.zeros((batch, num_heads, length, embed_dim // num_heads), dtype)
    return KVCache(key=zeros, value=zeros)


class MultiHeadAttention(nn.Module):
    """Self- or cross-attention in `heads` subspaces of `embed_dim / heads`, joined by a projection.

    The collection "intermediates" receives `weights` and `scores` (see `AttentionParts`) when the
    caller makes it mutable, so that looking at attention needs no second forward pass. The mask of
    a window is spelled out only then.

    Attributes:
      embed_dim: size of a token's vector.
      heads: number of heads; it divides `embed_dim`.
      length: positions for which tables are made (rotary) and slots of a cache.
      positions: "rotary" turns queries and keys, "alibi" adds its bias; any other kind has nothing
        to do here.
      qk_norm: whether queries and keys are RMS-normalized per head (Henry et al. 2020).
      qkv_bias: whether the three input projections have a bias.
      out_bias: whether the output projection has one.
      kernel_init: initializer of the input projections.
      out_init: initializer of the output projection.
      bias_init_scale: of the biases at the start, see `jaxlabs.layers.matmul.Dense`.
      dropout: rate on the attention weights.
      precision: see `jaxlabs.layers.matmul`.

    Raises:
      ValueError: `heads` does not divide `embed_dim`.
    """

    embed_dim: int
    num_heads: int
    length: int
    positions: str = "none"
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    out_init: Initializer = nn.initializers.lecun_normal()
    dropout: float = 0.0
    precision: str = "default"
    bias_init_scale: float = 0.0

    def setup(self):
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads do not divide an embed_dim of {self.embed_dim}"
            )
        self.kernels = [
            self.param(
                f"{name}_kernel", self.kernel_init, (self.embed_dim, self.embed_dim), jnp.float32
            )
            for name in ("query", "key", "value")
        ]
        if self.qkv_bias:
            bias_init = within(self.bias_init_scale * self.embed_dim**-0.5)
            self.biases = [
                self.param(f"{name}_bias", bias_init, (self.embed_dim,), jnp.float32)
                for name in ("query", "key", "value")
            ]
        self.weight_dropout = Dropout(self.dropout)
        self.out = Dense(
            self.embed_dim, self.out_bias, self.out_init, self.precision, self.bias_init_scale
        )

    def __call__(
        self,
        x: jax.Array,
        mask: Mask = None,
        *,
        memory: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns `[batch, time, embed_dim]` for `x [batch, time, embed_dim]`.

        With `memory [batch, memory_time, embed_dim]` it is cross-attention: queries come from `x`,
        keys and values from the memory, whose padding the mask hides (`layers.masks.padding`).

        Raises:
          ValueError: there is a memory, and positions or a window that are told by the distance of
            query and key, which two sequences do not have.
        """
        if memory is None:
            return self._attend(*self._project(x, 0), mask, dropout_keys)
        return self.recall(x, self.remember(memory), mask, dropout_keys=dropout_keys)

    def remember(self, memory: jax.Array) -> KVCache:
        """Returns keys and values of `memory [batch, memory_time, embed_dim]`, for any query."""
        return KVCache(*self._heads(memory, 1, 2))

    def recall(
        self,
        x: jax.Array,
        memory: KVCache,
        mask: Mask = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Attends from `x [batch, time, embed_dim]` to a memory; see `__call__`."""
        if self.positions in ("rotary", "alibi") or isinstance(mask, AttentionMask):
            told = mask if isinstance(mask, AttentionMask) else f"{self.positions} positions"
            raise ValueError(f"{told}: query and memory have no distance; none is accepted")
        return self._attend(*self._heads(x, 0), memory.key, memory.value, mask, dropout_keys)

    def prefill(self, x: jax.Array, mask: Mask = None) -> tuple[jax.Array, KVCache]:
        """Attends as `__call__` does and returns the cache of these first positions as well."""
        query, key, value = self._project(x, 0)
        empty = empty_cache(x.shape[0], self.num_heads, self.length, self.embed_dim, key.dtype)
        cache = _write(empty, key, value, 0)
        return self._attend(query, key, value, mask, None), cache

    def decode(
        self, x: jax.Array, cache: KVCache, position: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, KVCache]:
        """Attends from one new token to the cache and itself.

        Args:
          x: [batch, 1, embed_dim].
          cache: the positions before.
          position: [] of the new token, below `length`.
          mask: the token's row over the slots, from `layers.masks.cached`.

        Returns:
          Output `[batch, 1, embed_dim]` and the cache with the new token in it.
        """
        query, key, value = self._project(x, position)
        cache = _write(cache, key, value, position)
        return self._attend(query, cache.key, cache.value, mask, None, position), cache

    def _project(self, x: jax.Array, first: int | jax.Array) -> list[jax.Array]:
        """Returns query, key and value of positions `first` and on, see `_heads`."""
        query, key, value = self._heads(x, 0, 1, 2)
        if self.positions == "rotary":
            time = x.shape[1]
            tables = positions.rope_tables(self.length, self.embed_dim // self.num_heads)
            rows = [lax.dynamic_slice_in_dim(jnp.asarray(table), first, time) for table in tables]
            query, key = positions.rotate(query, *rows), positions.rotate(key, *rows)
        return [query, key, value]

    def _heads(self, x: jax.Array, *which: int) -> list[jax.Array]:
        """Returns some of query (0), key (1) and value (2), each `[batch, heads, time, head_dim]`.

        One dot for all: kernels are joined at run time, since the optimizer should see three
        matrices and the processor one.
        """
        batch, time, _ = x.shape
        kernel = jnp.concatenate([self.kernels[part] for part in which], axis=1)
        joined = matmul(x, kernel, self.precision)
        if self.qkv_bias:
            biases = jnp.concatenate([self.biases[part] for part in which])
            joined = joined + biases[None, None, :]
        heads = joined.reshape(batch, time, len(which) * self.num_heads, -1).swapaxes(1, 2)
        parts = jnp.split(heads, len(which), axis=1)
        if self.qk_norm:
            parts = [
                rms_norm(part) if number < 2 else part
                for number, part in zip(which, parts, strict=True)
            ]
        return parts

    def _attend(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: Mask,
        dropout_keys: jax.Array | None,
        first: int | jax.Array = 0,
    ) -> jax.Array:
        slopes = positions.alibi_slopes(self.num_heads) if self.positions == "alibi" else None

        drop = functools.partial(self.weight_dropout, keys=dropout_keys)
        options = {"dropout": drop, "precision": self.precision}
        if isinstance(mask, AttentionMask):
            if not self.is_mutable_collection("intermediates"):
                return self._join(mask.attend(query, key, value, slopes=slopes, **options))
            mask = mask.dense(query.shape[2])
        bias = None
        if slopes is not None:
            query_index = first + jnp.arange(query.shape[2])
            bias = positions.alibi_bias(slopes, query_index, jnp.arange(key.shape[2]))
        parts = attention_parts(query, key, value, mask, bias=bias, **options)
        self.sow("intermediates", "weights", parts.weights)
        self.sow("intermediates", "scores", parts.scores)
        return self._join(parts.output)

    def _join(self, heads: jax.Array) -> jax.Array:
        """Projects `[batch, heads, time, head_dim]` to `[batch, time, embed_dim]`."""
        batch, _, time, _ = heads.shape
        return self.out(heads.swapaxes(1, 2).reshape(batch, time, self.embed_dim))


def _write(cache: KVCache, key: jax.Array, value: jax.Array, position: int | jax.Array) -> KVCache:
    """Returns the cache with `key` and `value [batch, heads, time, head_dim]` at `position` on."""
    start = tuple(jnp.asarray(index, jnp.int32) for index in (0, 0, position, 0))
    written = KVCache(
        key=lax.dynamic_update_slice(cache.key, key, start),
        value=lax.dynamic_update_slice(cache.value, value, start),
    )
    # Otherwise XLA fuses the write into the dots that read the cache, and copies the cache for it.
    return lax.optimization_barrier(written)
