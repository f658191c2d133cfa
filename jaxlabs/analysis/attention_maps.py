"""Attention maps of a trained model, attention rollout, and checks of the attention masks."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxlabs.config import ArgumentError, Config, runtime
from jaxlabs.data.tokenizers import SPECIAL_TOKENS, Tokenizer
from jaxlabs.data.vocab import PADDING
from jaxlabs.run_folder import RunFolder

SENTENCES = {
    "short": "We will keep our promise to the American people .",
    "long": (
        "We have made great progress over the past year , but there is still much work to do , and"
        " together we will build a better future for all our children ."
    ),
}
"""Default sentences for word-level models, split at spaces; the long one has 32 words."""

HELD_OUT_TOKENS = 48
"""Maximum tokens of held-out text in attention maps."""

# A float32 softmax row over a few hundred keys sums to 1 within a few 1e-7. Masked weights are
# exactly 0.
LIMITS = {
    "row_sum_error": ("rows sum to 1", 1e-5),
    "padding_weight": ("no weight on padding", 0.0),
    "future_weight": ("no weight above the diagonal", 0.0),
    "weight_beyond_window": ("no weight outside the window", 0.0),
}
"""Metric of `checks` -> (property that it measures, largest value at which the property holds)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMapsConfig(Config):
    """Texts and options of a run's attention maps."""

    attention_text: str | None = runtime(
        None,
        "texts of the attention maps, separated by |; none: the lab's default texts",
        aliases=("shown_text",),
    )
    attention_rollout: bool = runtime(
        False, "attention rollout through all layers (Abnar and Zuidema 2020)"
    )

    def texts(self) -> dict[str, str]:
        """Returns the texts of `attention_text` by name; empty if it is not given."""
        if self.attention_text is None:
            return {}
        texts = [text.strip(" ") for text in self.attention_text.split("|")]
        return {f"text {i + 1}" if len(texts) > 1 else "": text for i, text in enumerate(texts)}

    def check(self) -> None:
        if self.attention_text is not None and not all(self.texts().values()):
            raise ArgumentError(
                "attention_text",
                f"{self.attention_text!r} is not accepted; texts of at least one character,"
                " separated by |",
            )


class MapExample(NamedTuple):
    """One sequence whose attention maps are computed.

    Attributes:
      labels: one label for each token, padding included.
      inputs: arguments of the model, each `[1, ...]`; the tokens `[1, time]` come first.
      weights: `[time]`, above 0 for valid tokens and 0 for padding; None for no padding.
    """

    labels: Sequence[str]
    inputs: tuple[Any, ...]
    weights: np.ndarray | None = None


def encode_texts(
    texts: Mapping[str, str],
    split: Callable[[str], Sequence[str]],
    encode: Callable[[str], np.ndarray],
    max_length: int,
    padding: int = 0,
) -> dict[str, MapExample]:
    """Returns texts by name as sequences of at most `max_length` tokens, for a language model.

    `split` returns one label for each token and `encode` the tokens `[time]`. After a text follow
    `padding` padding tokens, if they fit, to check that they get no attention.
    """
    examples = {}
    for name, text in texts.items():
        labels, tokens = list(split(text)[:max_length]), np.asarray(encode(text))[:max_length]
        pad = min(padding, max_length - len(tokens))
        tokens = np.pad(tokens, (0, pad), constant_values=PADDING)
        weights = np.arange(len(tokens)) < len(labels) if padding else None
        labels += [SPECIAL_TOKENS[PADDING]] * pad
        examples[name] = MapExample(labels, (tokens[None],), weights)
    return examples


def text_examples(
    texts: Mapping[str, str], tokenizer: Tokenizer, tokens: np.ndarray
) -> dict[str, MapExample]:
    """Returns texts by name as sequences of a language model, or a part of other tokens if none.

    `tokens [context_length]` are those of a whole context; longer texts are truncated to it.
    """
    if texts:
        return encode_texts(texts, tokenizer.pieces, tokenizer.encode, len(tokens))
    tokens = tokens[:HELD_OUT_TOKENS]
    return {"": MapExample(tokenizer.labels(tokens), (tokens[None],))}


def write_maps(
    folder: RunFolder,
    config: AttentionMapsConfig,
    model: nn.Module,
    params: Any,
    examples: Mapping[str, MapExample],
    *,
    causal: bool,
    window: int | None = None,
) -> dict[str, float]:
    """Writes arrays/attention_maps.npz; prints and returns the worst value of each check.

    The file holds `<name>/maps` and `<name>/labels` for every sequence of `examples`, and
    `<name>/rollout` with `attention_rollout`; a sequence named "" has no prefix. `causal` and
    `window`: see `checks`; a window of at least the longest sequence is not checked.
    """
    arrays, worst = {}, {}
    longest = max(len(sequence.labels) for sequence in examples.values())
    window = None if window is not None and window >= longest else window
    for name, (labels, inputs, weights) in examples.items():
        prefix = f"{name}/" if name else ""
        maps = attention_maps(model, params, *inputs)
        arrays |= {f"{prefix}maps": maps, f"{prefix}labels": np.array(list(labels))}
        if config.attention_rollout:
            arrays[f"{prefix}rollout"] = rollout(maps)
        result = checks(maps, causal=causal, window=window, weights=weights)
        worst = {name: float(np.maximum(result[name], worst.get(name, 0.0))) for name in result}
    folder.write_arrays("attention_maps", **arrays)
    print(format_checks(worst))
    return worst


def attention_maps(model: nn.Module, params: Any, *inputs: Any) -> np.ndarray:
    """Returns the attention weights `[layers, heads, query, key]` of the first sequence.

    They are the weights that the forward pass used. Attention modules sow them into the
    collection "intermediates" under the name `weights`. Layers are sorted by their number.

    Args:
      model: a linen module.
      params: its parameters.
      *inputs: arguments of the model: tokens `[batch, time]` and, where it takes one, the padding
        mask, each `[batch, ...]`; only the first example of the batch is used.

    Raises:
      ValueError: no attention module sows its weights, or they have different shapes.
    """

    @jax.jit  # XLA drops everything that the weights do not depend on
    def sow(params, inputs):
        _, sown = model.apply({"params": params}, *inputs, mutable=["intermediates"])
        return sown

    def by_number(name):  # orders `blocks_2` before `blocks_10`
        return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]

    sown = sow(params, jax.tree.map(lambda array: array[:1], inputs))
    paths = jax.tree_util.tree_flatten_with_path(sown)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    names = sorted((name for name in named if "['weights']" in name), key=by_number)
    if not names:
        raise ValueError(f"{type(model).__name__} sows no attention weights")
    shapes = {named[name].shape[1:] for name in names}
    if len(shapes) > 1:
        raise ValueError(f"{type(model).__name__} sows attention of several shapes: {shapes}")
    return np.stack([np.asarray(named[name])[0] for name in names])


def rollout(maps: np.ndarray, residual: float = 0.5) -> np.ndarray:
    """Returns the attention rollout of Abnar and Zuidema 2020, section 3.

    The layer matrices `residual * I + (1 - residual) * mean over heads` are multiplied from the
    first layer up. The result estimates the contribution of each token to a position; it ignores
    values, projections and feed-forward networks.

    For weights `[layers, heads, time, time]` it returns `[layers, time, time]`; row i of layer l
    has the contribution of each token to position i after that layer. Rows sum to 1; a query
    without visible keys attends to itself.
    """
    mean = maps.mean(axis=1, dtype=np.float64)
    steps = residual * np.eye(mean.shape[-1])[None] + (1 - residual) * mean
    steps /= steps.sum(axis=-1, keepdims=True)
    return np.stack([*itertools.accumulate(steps, lambda below, step: step @ below)])


def checks(
    maps: np.ndarray,
    *,
    causal: bool,
    window: int | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Measures how far attention weights `[layers, heads, time, time]` violate their masks.

    Args:
      maps: the attention weights, queries in rows.
      causal: whether a causal mask is used.
      window: number of visible keys on one side, the query's own position included; None: all.
      weights: [time], above 0 for valid tokens and 0 for padding; None for no padding.

    Returns:
      `row_sum_error`, the largest distance of a row's sum from 1, or from 0 for a query without
      visible keys; with `weights` `padding_weight`, the largest weight on a padding key; for causal
      maps `future_weight`, the largest weight above the diagonal; with a window
      `weight_beyond_window`, the largest weight outside the window. All but the first are exactly 0
      if the masks work; LIMITS has the largest accepted values.
    """
    time = maps.shape[-1]
    distance = np.subtract.outer(np.arange(time), np.arange(time))
    future = (distance < 0) & causal
    beyond = (distance if causal else np.abs(distance)) >= (time if window is None else window)
    padded = np.zeros(time, bool) if weights is None else np.asarray(weights) <= 0
    has_keys = ~(future | beyond | padded[None, :]).all(axis=-1)
    error = np.abs(maps.sum(axis=-1, dtype=np.float64) - has_keys)
    result = {"row_sum_error": float(error.max())}
    where = {
        "padding_weight": None if weights is None else padded[None, :],
        "future_weight": future if causal else None,
        "weight_beyond_window": None if window is None else beyond,
    }
    return result | {
        name: float(np.max(np.abs(maps), where=forbidden, initial=0))
        for name, forbidden in where.items()
        if forbidden is not None
    }


def format_checks(metrics: Mapping[str, float]) -> str:
    """Returns the metrics of `checks` as text, one line each: property, metric, value, verdict."""
    lines = []
    for name, value in metrics.items():
        meaning, limit = LIMITS[name]
        verdict = "ok" if value <= limit else f"WRONG, at most {limit:g}"
        lines.append(f"{meaning + ':':36}{name:22}{value:9.2g}  {verdict}")
    return "\n".join(lines)
