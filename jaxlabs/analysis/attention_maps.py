"""Where the heads of a trained model look, and whether its masks hold."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxlabs.config import RUNTIME, Config, UserError, setting
from jaxlabs.data.tokenizers import PADDING, SPECIAL
from jaxlabs.run_folder import RunFolder

SENTENCES = {
    "short": "We will keep our promise to the American people .",
    "long": (
        "We have made great progress over the past year , but there is still much work to do , and"
        " together we will build a better future for all our children ."
    ),
}
"""Sentences of our own for models of words, parted at spaces; the long one has 32 of them."""

CHARACTERS = 48
"""How many characters of a text a model of characters shows, so that all stay readable."""

# A row of a float32 softmax over a few hundred keys sums to 1 within a few 1e-7; a masked weight is
# 0 and nothing near it.
LIMITS = {
    "row_sum_error": ("rows sum to 1", 1e-5),
    "padding_weight": ("nothing on padding", 0.0),
    "future_weight": ("nothing above the diagonal", 0.0),
    "weight_beyond_window": ("nothing outside the window's band", 0.0),
}
"""Figure of `checks` -> (what it stands for, the largest value at which that holds)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMapsConfig(Config):
    """Which sentences a run's attention maps show, and how."""

    attention_text: str | None = setting(
        None,
        "texts of the attention maps, parted by |; none: the lab's own",
        kind=RUNTIME,
        aliases=("shown_text",),
    )
    attention_rollout: bool = setting(
        False, "also follow attention through all layers, with the residual path", kind=RUNTIME
    )

    def texts(self) -> dict[str, str]:
        """Returns the texts of the flag by name; empty where it was not given."""
        if self.attention_text is None:
            return {}
        texts = [text.strip(" ") for text in self.attention_text.split("|")]
        return {f"text {i + 1}" if len(texts) > 1 else "": text for i, text in enumerate(texts)}

    def check(self) -> None:
        if self.attention_text is not None and not all(self.texts().values()):
            raise UserError(
                f"--attention_text: {self.attention_text!r} is not accepted; texts of at least one"
                " character, parted by |"
            )


@dataclasses.dataclass(frozen=True)
class Shown:
    """One sequence whose attention is looked at.

    Attributes:
      labels: one for each token, padding included.
      inputs: what the model is called with, each `[1, ...]`; the tokens `[1, time]` come first.
      weights: `[time]`, above 0 where there is a token and not padding; None for no padding.
    """

    labels: Sequence[str]
    inputs: tuple[Any, ...]
    weights: np.ndarray | None = None


def shown_texts(
    texts: Mapping[str, str],
    split: Callable[[str], Sequence[str]],
    encode: Callable[[str], np.ndarray],
    longest: int,
    padding: int = 0,
) -> dict[str, Shown]:
    """Returns named texts as sequences of at most `longest` tokens, for a model of tokens alone.

    Args:
      texts: by name.
      split: `text -> labels`, one for each token.
      encode: `text -> tokens [time]`.
      longest: the model's context.
      padding: how many places of padding follow a text, if there is room, to see that nothing looks
        at them.
    """
    shown = {}
    for name, text in texts.items():
        labels, tokens = list(split(text)[:longest]), np.asarray(encode(text))[:longest]
        pad = min(padding, longest - len(tokens))
        tokens = np.pad(tokens, (0, pad), constant_values=PADDING)
        weights = np.arange(len(tokens)) < len(labels)
        shown[name] = Shown(
            labels + [SPECIAL[PADDING]] * pad, (tokens[None],), weights if padding else None
        )
    return shown


def write_maps(
    folder: RunFolder,
    config: AttentionMapsConfig,
    model: nn.Module,
    params: Any,
    shown: Mapping[str, Shown],
    *,
    causal: bool,
    window: int | None = None,
) -> dict[str, float]:
    """Writes arrays/attention_maps.npz; prints and returns the worst figure of each check.

    The file holds `<name>/maps` and `<name>/labels` for every sequence of `shown`, and
    `<name>/rollout` where that was asked for; a sequence named "" has no prefix. `causal` and
    `window`: see `checks`; a window that no sequence is longer than is not checked.
    """
    arrays, worst = {}, {}
    if window is not None and window >= max(len(sequence.labels) for sequence in shown.values()):
        window = None
    for label, sequence in shown.items():
        prefix = f"{label}/" if label else ""
        maps = attention_maps(model, params, *sequence.inputs)
        arrays |= {f"{prefix}maps": maps, f"{prefix}labels": np.array(list(sequence.labels))}
        if config.attention_rollout:
            arrays[f"{prefix}rollout"] = rollout(maps)
        found = checks(maps, causal=causal, window=window, weights=sequence.weights)
        worst = {name: float(np.maximum(found[name], worst.get(name, 0.0))) for name in found}
    folder.write_arrays("attention_maps", **arrays)
    print(check_lines(worst))
    return worst


def attention_maps(model: nn.Module, params: Any, *inputs: Any) -> np.ndarray:
    """Returns the attention weights `[layers, heads, query, key]` of the first sequence.

    They are the weights that the forward pass itself used, which attention modules sow into the
    collection "intermediates" under the name `weights`; layers come in the order of their numbers.

    Args:
      model: a linen module.
      params: its parameters.
      *inputs: what the model is called with: tokens `[batch, time]` and, where it takes them,
        padding and so on, each with the batch in front; only the first of the batch is looked at.

    Raises:
      ValueError: the model has no attention module that sows its weights, or modules of different
        shapes, which make no one picture.
    """

    @jax.jit  # one short program, for which the compiler drops what leads to no weights
    def look(params: Any, inputs: tuple[Any, ...]) -> Any:
        _, sown = model.apply({"params": params}, *inputs, mutable=["intermediates"])
        return sown

    sown = look(params, jax.tree.map(lambda array: array[:1], inputs))
    paths = jax.tree_util.tree_flatten_with_path(sown)[0]
    found = {jax.tree_util.keystr(path): leaf for path, leaf in paths if _is_weights(path)}
    if not found:
        raise ValueError(f"{type(model).__name__} sows no attention weights")
    shapes = {leaf.shape[1:] for leaf in found.values()}
    if len(shapes) > 1:
        raise ValueError(f"{type(model).__name__} sows attention of several shapes: {shapes}")
    return np.stack([np.asarray(found[name])[0] for name in sorted(found, key=_by_number)])


def rollout(maps: np.ndarray, residual: float = 0.5) -> np.ndarray:
    """Follows attention down through the layers: Abnar and Zuidema 2020, section 3.

    A position passes on what it was (`residual`) and what it attended to (the rest, the mean of the
    heads); these matrices are multiplied from the first layer up. An estimate of which tokens a
    position draws on: it leaves out values, projections and feed-forward networks.

    Args:
      maps: [layers, heads, time, time] attention weights.
      residual: share of a position that the residual path carries on.

    Returns:
      [layers, time, time]; row i of layer l tells the share that each token has in position i after
      that layer. Rows sum to 1; a query that saw no key keeps to itself.
    """
    mean = maps.mean(axis=1, dtype=np.float64)
    itself = np.eye(mean.shape[-1])
    steps = residual * itself[None] + (1 - residual) * mean
    steps /= steps.sum(axis=-1, keepdims=True)
    reached = [steps[0]]
    for step in steps[1:]:
        reached.append(step @ reached[-1])
    return np.stack(reached)


def checks(
    maps: np.ndarray,
    *,
    causal: bool,
    window: int | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Measures what must hold of attention weights `[layers, heads, time, time]`.

    Args:
      maps: the weights, queries in rows.
      causal: whether a query may see nothing after itself.
      window: how many keys a query sees at most on one side, its own included; None for all.
      weights: [time], above 0 where there is a token and not padding; None for no padding.

    Returns:
      `row_sum_error`, the largest distance of a row's sum from 1, or from 0 for a padded query that
      no key is left to; with `weights` `padding_weight`, the largest weight on a padded key; for
      causal maps `future_weight`, the largest weight after the query; with a window
      `weight_beyond_window`, the largest one too far away. All but the first are exactly 0 where
      the masks work; LIMITS tells how large each may be.
    """
    time = maps.shape[-1]
    back = np.arange(time)[:, None] - np.arange(time)[None, :]
    future = (back < 0) & causal
    beyond = (back if causal else np.abs(back)) >= (time if window is None else window)
    padded = np.zeros(time, bool) if weights is None else np.asarray(weights) <= 0
    seen = ~(future | beyond | padded[None, :]).all(axis=-1)
    error = np.abs(maps.sum(axis=-1, dtype=np.float64) - seen)
    found = {"row_sum_error": float(error.max())}
    where = {
        "padding_weight": None if weights is None else padded[None, :],
        "future_weight": future if causal else None,
        "weight_beyond_window": None if window is None else beyond,
    }
    return found | {
        name: float(np.max(np.abs(maps), where=forbidden, initial=0))
        for name, forbidden in where.items()
        if forbidden is not None
    }


def check_lines(figures: Mapping[str, float]) -> str:
    """Returns the figures of `checks` as text, one line each: what, how much, ok or not."""
    lines = []
    for name, value in figures.items():
        meaning, limit = LIMITS[name]
        verdict = "ok" if value <= limit else f"WRONG, at most {limit:g}"
        lines.append(f"{meaning + ':':36}{name:22}{value:9.2g}  {verdict}")
    return "\n".join(lines)


def _is_weights(path: tuple[Any, ...]) -> bool:
    return any(getattr(part, "key", None) == "weights" for part in path)


def _by_number(name: str) -> list[tuple[str, int]]:
    """Sorts `blocks_2` before `blocks_10`."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]
