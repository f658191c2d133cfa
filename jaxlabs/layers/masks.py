"""Attention masks: boolean arrays `[batch or 1, 1, query, key]`, combined with `&`.

True means that the query attends to the key. The axis of size 1 broadcasts over the heads.
`AttentionMask` describes a causal, local or segmented mask without its array. The masked softmax is
here too.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class AttentionMask:
    """A causal, local or segmented mask that is not materialized.

    See `layers.cpu.masked_attention`.

    Raises:
      ValueError: the window is below 1.

    Example:
      >>> from jaxlabs.layers.masks import AttentionMask
      >>> AttentionMask(window=2).to_array(3)[0, 0].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    #: whether a query sees no later key; False makes the window two-sided: `|query - key| <
    #: window`. Static.
    causal: bool = flax.struct.field(pytree_node=False, default=True)
    #: keys visible to a query, its own included: `0 <= query - key < window`; None: unlimited. May
    #: exceed the sequence length. Static.
    window: int | None = flax.struct.field(pytree_node=False, default=None)
    weights: jax.Array | None = None  #: [batch, time], 0 for padding; None: no padding
    #: [batch, time] integers, such as the documents of a packed text: a query sees the keys of its
    #: own segment; None: all
    segments: jax.Array | None = None

    def __post_init__(self):
        if self.window is not None and self.window < 1:
            raise ValueError(f"window: {self.window} is not accepted; at least 1, the query's own")

    def to_array(self, time: int) -> jax.Array:
        """Returns the boolean mask, `[batch or 1, 1, time, time]`."""
        return self.block(jnp.arange(time), slice(0, time))

    def block(self, query: jax.Array, keys: slice) -> jax.Array:
        """Returns the mask of positions `query [query]`, `[batch or 1, 1, query, keys]`."""
        distance = query[:, None] - jnp.arange(keys.start, keys.stop)[None, :]
        mask = visible(distance, self.window, causal=self.causal)[None, None]
        if self.weights is not None:
            mask = mask & padding(self.weights[:, keys])
        if self.segments is not None:
            segments = jnp.asarray(self.segments)
            mask = mask & same_segment(segments[:, query], segments[:, keys])
        return mask


def causal(time: int) -> jax.Array:
    """Returns the causal mask: `key <= query`, `[1, 1, time, time]`."""
    return AttentionMask().to_array(time)


def visible(
    distance: jax.Array | np.ndarray, window: int | None, *, causal: bool = True
) -> jax.Array:
    """Returns which keys at `distance = query - key` are visible; see `AttentionMask`."""
    mask = distance >= 0 if causal else jnp.ones(distance.shape, bool)
    return mask if window is None else mask & (jnp.abs(distance) < window)


def padding(weights: jax.Array) -> jax.Array:
    """Returns the padding mask `[batch, 1, 1, time]`: `weights [batch, time]` that are not 0."""
    return weights.astype(bool)[:, None, None, :]


def same_segment(query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns where the segments of `query [batch, query]` and `key [batch, key]` are equal.

    The mask is `[batch, 1, query, key]`.
    """
    return query[:, None, :, None] == key[:, None, None, :]


def decode_mask(position: jax.Array, length: int, window: int | None = None) -> jax.Array:
    """Returns the causal or local mask of one query at `position []`, `[1, 1, 1, length]`.

    The keys are a cache of `length` slots; those after `position` are still empty:
    `0 <= position - key`, and `position - key < window` if there is a window.
    """
    return visible(position - jnp.arange(length)[None, None, None, :], window)


def masked_softmax(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the softmax of `scores [..., query, key]` over the visible keys, 0 if there is none.

    The mask is boolean and broadcasts to `scores`; None: all keys are visible.
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    # Not -inf: a row without keys would be 0 / 0, which `jax_debug_nans` reports even though the
    # next line masks the result.
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.where(mask.any(axis=-1, keepdims=True), weights, 0)
