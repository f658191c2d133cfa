"""Who may attend to whom: boolean arrays `[batch or 1, 1, query, key]`, combined with `&`.

True means that the query may see the key. The axis of size 1 stands for the heads. The softmax that
keeps to such a mask stands here as well.
"""

import jax
import jax.numpy as jnp
import numpy as np


def causal(time: int) -> jax.Array:
    """Keys up to the query itself: `key <= query`, `[1, 1, time, time]`."""
    query, key = _positions(time)
    return key <= query


def local_window(time: int, window: int, *, causal: bool = True) -> jax.Array:
    """The last `window` keys, the query's own included: `0 <= query - key < window`.

    Without `causal` it reaches as far to the other side: `|query - key| < window`. A window at
    least as long as the text is the causal mask, or hides nothing. Shape `[1, 1, time, time]`.

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
    """Which keys at `distance = query - key` (any shape) a window holds; None: one without an end.

    Raises:
      ValueError: the window is below 1.
    """
    seen = distance >= 0 if causal else jnp.ones(distance.shape, bool)
    return seen if window is None else seen & (jnp.abs(distance) < require_window(window))


def require_window(window: int) -> int:
    """Returns a window; raises ValueError if it does not even hold the query's own key."""
    if window < 1:
        raise ValueError(f"window: {window} is not accepted; at least 1, the query's own key")
    return window


def padding(weights: jax.Array) -> jax.Array:
    """Keys that are there: `weights [batch, time]` that are not 0, `[batch, 1, 1, time]`."""
    return weights.astype(bool)[:, None, None, :]


def cached(position: jax.Array, length: int, window: int | None = None) -> jax.Array:
    """The row that one new query at `position []` has in the masks above, `[1, 1, 1, length]`.

    The keys are a cache of `length` slots of which those after `position` are still empty:
    `0 <= position - key`, and `position - key < window` if there is a window.
    """
    key = jnp.arange(length)[None, None, None, :]
    seen = key <= position
    return seen if window is None else seen & (position - key < window)


def masked_softmax(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the softmax over the keys that `mask` lets through, 0 for a query without any.

    Args:
      scores: [..., query, key].
      mask: booleans that broadcast from size 1 to `scores`; None lets all through.
    """
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    # Not -inf: a row without keys would be 0 / 0, which `jax_debug_nans` stops at even though the
    # line after it hides the result.
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.where(mask.any(axis=-1, keepdims=True), weights, 0)


def _positions(time: int) -> tuple[jax.Array, jax.Array]:
    """Returns positions of queries, `[1, 1, time, 1]`, and of keys, `[1, 1, 1, time]`."""
    index = jnp.arange(time)
    return index[None, None, :, None], index[None, None, None, :]
