"""Where the heads of a trained model look."""

import re
from typing import Any

import flax.linen as nn
import jax
import numpy as np


def attention_maps(model: nn.Module, params: Any, tokens: jax.Array) -> np.ndarray:
    """Returns the attention weights `[layers, heads, query, key]` of the first sequence.

    They are the weights that the forward pass itself used, which attention modules sow into the
    collection "intermediates" under the name `weights`; layers come in the order of their numbers.

    Args:
      model: a linen module, called with the tokens alone.
      params: its parameters.
      tokens: [batch, time]; the others of the batch are not looked at.

    Raises:
      ValueError: the model has no attention module that sows its weights.
    """
    _, sown = model.apply({"params": params}, tokens[:1], mutable=["intermediates"])
    paths = jax.tree_util.tree_flatten_with_path(sown)[0]
    found = {jax.tree_util.keystr(path): leaf for path, leaf in paths if _is_weights(path)}
    if not found:
        raise ValueError(f"{type(model).__name__} sows no attention weights")
    return np.stack([np.asarray(found[name])[0] for name in sorted(found, key=_by_number)])


def checks(maps: np.ndarray, *, causal: bool, window: int | None = None) -> dict[str, float]:
    """Measures what must hold of attention weights `[layers, heads, time, time]`.

    Args:
      maps: the weights, queries in rows.
      causal: whether a query may see nothing after itself.
      window: how many keys a query sees at most, its own included; None for all.

    Returns:
      `row_sum_error`, the largest distance of a row's sum from 1; for causal maps `future_weight`,
      the largest weight after the query; with a window `weight_beyond_window`, the largest one too
      far back. The last two are exactly 0 where the masks work.
    """
    time = maps.shape[-1]
    back = np.arange(time)[:, None] - np.arange(time)[None, :]
    figures = {"row_sum_error": float(np.abs(maps.sum(axis=-1, dtype=np.float64) - 1).max())}
    if causal:
        figures["future_weight"] = float(np.max(np.abs(maps), where=back < 0, initial=0))
    if window is not None:
        figures["weight_beyond_window"] = float(
            np.max(np.abs(maps), where=back >= window, initial=0)
        )
    return figures


def _is_weights(path: tuple[Any, ...]) -> bool:
    return any(getattr(part, "key", None) == "weights" for part in path)


def _by_number(name: str) -> list[tuple[str, int]]:
    """Sorts `blocks_2` before `blocks_10`."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]
