"""Attention masks: boolean arrays `[batch or 1, 1, query, key]`, combined with `&`.

True means that the query attends to the key. The axis of size 1 broadcasts over the heads. The
masked softmax is here as well.
"""

import jax
import jax.numpy as jnp
import numpy as np


def causal(time: int) -> jax.Array:
    """Returns the causal mask: `key <= query`, `[1, 1, time, time]`."""
    query, key = _positions(time)
    return key <= query


def local_window(time: int, window: int, *, causal: bool = True) -> jax.Array:
    """Returns the local mask `[1, 1, time, time]`: `0 <= query - key < window`.

    The window counts the query's own key. Without `causal` it is two-sided: `|query - key| <
    window`. With a window at least as long as the sequence it is the causal mask, or all True.

    Raises:
      ValueError: the window is below 1.

    Example:
      >>> from jaxlabs.layers.masks import local_window
      >>> local_window(3, 2)[0, 0].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    query, key = _positions(time)
    return visible(query - key, window, causal=causal)


def visible(
    distance: jax.Array | np.ndarray, window: int | None, *, causal: bool = True
) -> jax.Array:
    """Returns which keys at `distance = query - key` (any shape) a window holds; None: unlimited.

    Raises:
      ValueError: the window is below 1.
    """
    mask = distance >= 0 if causal else jnp.ones(distance.shape, bool)
    return mask if window is None else mask & (jnp.abs(distance) < require_window(window))


def require_window(window: int) -> int:
    """Returns the window; raises ValueError if it does not hold the query's own key."""
    if window < 1:
        raise ValueError(f"window: {window} is not accepted; at least 1, the query's own key")
    return window


def padding(weights: jax.Array) -> jax.Array:
    """Returns the padding mask `[batch, 1, 1, time]`: `weights [batch, time]` that are not 0."""
    return weights.astype(bool)[:, None, None, :]


def decode_mask(position: jax.Array, length: int, window: int | None = None) -> jax.Array:
    """Returns the causal or local mask of one query at `position []`, `[1, 1, 1, length]`.

    The keys are a cache of `length` slots; those after `position` are still empty:
    `0 <= position - key`, and `position - key < window` if there is a window.
    """
    key = jnp.arange(length)[None, None, None, :]
    mask = key <= position
    return mask if window is None else mask & (position - key < window)


def masked_softmax(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the softmax over the visible keys, 0 for a query without any.

    Args:
      scores: [..., query, key].
      mask: booleans that broadcast to `scores`; None: all keys are visible.
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    # Not -inf: a row without keys would be 0 / 0, which `jax_debug_nans` reports even though the
    # next line masks the result.
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.where(mask.any(axis=-1, keepdims=True), weights, 0)


def _positions(time: int) -> tuple[jax.Array, jax.Array]:
    """Returns positions of queries, `[1, 1, time, 1]`, and of keys, `[1, 1, 1, time]`."""
    index = jnp.arange(time)
    return index[None, None, :, None], index[None, None, None, :]
