"""Who may attend to whom: boolean arrays `[batch or 1, 1, query, key]`, combined with `&`.

True means that the query may see the key. The axis of size 1 stands for the heads.
"""

import jax
import jax.numpy as jnp


def causal(time: int) -> jax.Array:
    """Keys up to the query itself: `key <= query`, `[1, 1, time, time]`."""
    query, key = _positions(time)
    return key <= query


def local_window(time: int, window: int) -> jax.Array:
    """The last `window` keys, the query's own included: `0 <= query - key < window`.

    A window at least as long as the text is the causal mask. Shape `[1, 1, time, time]`.
    """
    query, key = _positions(time)
    return (key <= query) & (query - key < window)


def padding(weights: jax.Array) -> jax.Array:
    """Keys that are there: `weights [batch, time] > 0`, `[batch, 1, 1, time]`."""
    return (weights > 0)[:, None, None, :]


def cached(position: jax.Array, length: int, window: int | None = None) -> jax.Array:
    """The row that one new query at `position []` has in the masks above, `[1, 1, 1, length]`.

    The keys are a cache of `length` slots of which those after `position` are still empty:
    `0 <= position - key`, and `position - key < window` if there is a window.
    """
    key = jnp.arange(length)[None, None, None, :]
    seen = key <= position
    return seen if window is None else seen & (position - key < window)


def _positions(time: int) -> tuple[jax.Array, jax.Array]:
    """Returns positions of queries, `[1, 1, time, 1]`, and of keys, `[1, 1, 1, time]`."""
    index = jnp.arange(time)
    return index[None, None, :, None], index[None, None, None, :]
