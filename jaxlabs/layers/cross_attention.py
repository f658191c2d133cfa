"""Multi-head attention to the output of an encoder (Vaswani et al. 2017, section 3.2.3)."""

import jax

from jaxlabs.layers.masks import AttentionMask
from jaxlabs.layers.multi_head_attention import KVCache, Mask, MultiHeadAttention


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
