"""The split of a text, and the windows for evaluation.

Every function returns `Examples` with `inputs [count, time]` and `targets [count, time]` int32,
which are the inputs shifted by one token, and `weights [count, time]` float32, 0 where a target is
not scored. A text of fewer than context_length + 1 tokens raises UserError with both numbers.

Tokens are an array `[length]`, or an object with `len(tokens)`, slices and `windows(start, length)`
such as memory-mapped shards, of which only the windows that are returned are read.

With `documents`, the first token of each, `[documents]` ascending, the documents are separate, see
`jaxlabs.data.documents`.
"""

from typing import Any, Protocol

import jax
import numpy as np
import psutil

from jaxlabs import keys
from jaxlabs.config import ArgumentError
from jaxlabs.data.batches import Examples, TokenStream, require_window
from jaxlabs.data.documents import segments, separate

MAX_EVAL_TOKENS = 500_000
"""Default of `--eval_tokens`: a larger part of a text is sampled in evenly spaced windows."""

BYTES_PER_TOKEN = 12
"""Memory of a token of a window: input, target and weight."""


class Tokens(Protocol):
    """A long sequence of tokens, `[length]` integers; an array, or files that are read in parts."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...


def split_text(text: str) -> tuple[str, str]:
    """Returns the first 90 % for training and the held-out rest (nanoGPT's split)."""
    border = int(0.9 * len(text))
    return text[:border], text[border:]


def token_stream(
    tokens: np.ndarray, context_length: int, documents: np.ndarray | None = None
) -> TokenStream:
    """Returns the training stream over `tokens [length]`; raises if the text is too short."""
    require_window(len(tokens), context_length)
    starts = None if documents is None else documents.astype(np.int32)
    return TokenStream(tokens, context_length, starts)


def token_limit(eval_tokens: int | None) -> int:
    """Returns the number of tokens that an evaluation of one part of a text reads at most."""
    return MAX_EVAL_TOKENS if eval_tokens is None else eval_tokens


def consecutive_windows(
    tokens: Tokens,
    context_length: int,
    eval_tokens: int | None = None,
    documents: np.ndarray | None = None,
) -> Examples:
    """Returns non-overlapping windows that score each of the length - 1 targets exactly once.

    Of a text with more than `token_limit(eval_tokens)` targets it returns evenly spaced windows,
    which hold at most so many tokens.
    """
    require_window(len(tokens), context_length)
    targets = len(tokens) - 1
    _require_memory(min(targets, token_limit(eval_tokens)))
    if targets > token_limit(eval_tokens):
        count = _fitting(eval_tokens, context_length)
        return evenly_spaced_windows(tokens, context_length, count, documents)
    tokens = tokens[:]
    start = np.arange(0, targets, context_length)
    padded = np.pad(tokens, (0, int(start[-1]) + context_length - targets))
    weights = np.arange(start.size * context_length) < targets
    return _windows(padded, context_length, start, weights.reshape(-1, context_length), documents)


def long_windows(
    tokens: Tokens, context_length: int, rows: int, eval_tokens: int | None = None
) -> Examples:
    """Returns consecutive windows as for `consecutive_windows`, at most `rows` long ones.

    They are at least `context_length` tokens long. Of a text with more than
    `token_limit(eval_tokens)` targets they are shorter, and evenly spaced.
    """
    require_window(len(tokens), context_length)
    targets = len(tokens) - 1
    if targets > token_limit(eval_tokens):
        rows = min(rows, _fitting(eval_tokens, context_length))
        return evenly_spaced_windows(tokens, token_limit(eval_tokens) // rows, rows)
    rows = min(rows, targets // context_length)
    return consecutive_windows(tokens, -(-targets // rows), targets)


def random_windows(
    tokens: Tokens, context_length: int, count: int, seed: int, documents: np.ndarray | None = None
) -> Examples:
    """Returns `count` windows with uniformly random starts, sampled with replacement.

    Starts are below 2**31, also in a longer text.
    """
    require_window(len(tokens), context_length)
    key, fitting = keys.stream(seed, "windows"), min(len(tokens) - context_length, 2**31 - 1)
    start = jax.random.randint(key, (count,), 0, fitting, np.int32)
    return _windows(tokens, context_length, np.asarray(start), documents=documents)


def evenly_spaced_windows(
    tokens: Tokens, context_length: int, count: int, documents: np.ndarray | None = None
) -> Examples:
    """Returns `count` windows with evenly spaced starts, or all windows if fewer fit."""
    require_window(len(tokens), context_length)
    fitting = len(tokens) - context_length
    count = min(count, fitting)
    start = np.arange(count) * (fitting - 1) // max(count - 1, 1)
    return _windows(tokens, context_length, start, documents=documents)


def sliding_windows(
    tokens: Tokens,
    context_length: int,
    stride: int,
    eval_tokens: int | None = None,
    documents: np.ndarray | None = None,
) -> Examples:
    """Returns overlapping windows that score every target once, almost all from a full context.

    The first window scores all its targets, each further window its last `stride` targets (the last
    window the remaining ones). A scored target is thus predicted from more than
    `context_length - stride` tokens, and with a stride of 1 from `context_length` tokens. The cost
    is `context_length / stride` times that of `consecutive_windows`.

    Of a text with more than `token_limit(eval_tokens)` targets it returns evenly spaced windows,
    which hold at most so many tokens; each of them scores its last `stride` targets.
    """
    require_window(len(tokens), context_length)
    if len(tokens) - 1 > token_limit(eval_tokens):
        count = _fitting(eval_tokens, context_length)
        sample = evenly_spaced_windows(tokens, context_length, count, documents)
        scored = np.arange(context_length) >= context_length - stride
        sample.arrays["weights"] *= scored[None, :].astype(np.float32)
        return sample
    last = len(tokens) - context_length - 1
    _require_memory((last // stride + 2) * context_length)
    start = np.append(np.arange(0, last, stride), last)
    first_scored = np.append(0, start[:-1] + context_length)
    position = start[:, None] + np.arange(context_length)[None, :]
    scored = position >= first_scored[:, None]
    return _windows(tokens, context_length, start, scored, documents)


def _require_memory(tokens: int) -> None:
    """Raises ArgumentError unless windows of so many tokens fit into the memory of this machine."""
    needed, memory = BYTES_PER_TOKEN * tokens, psutil.virtual_memory().total
    if needed > memory:
        found = f"{tokens:,} tokens need {needed / 1e9:,.1f} GB as windows"
        accepted = f"this machine has {memory / 1e9:,.1f} GB; fewer tokens"
        raise ArgumentError("eval_tokens", f"{found}; {accepted}")


def _fitting(eval_tokens: int | None, context_length: int) -> int:
    """Returns how many windows `eval_tokens` hold; raises ArgumentError if it is none."""
    limit = token_limit(eval_tokens)
    if limit < context_length:
        message = f"{limit} is not accepted; at least one window, {context_length} tokens"
        raise ArgumentError("eval_tokens", message)
    return limit // context_length


def _windows(
    tokens: Tokens,
    context_length: int,
    start: np.ndarray,
    weights: np.ndarray | None = None,
    documents: np.ndarray | None = None,
) -> Examples:
    """Returns the windows at `start [count]`; `weights [count, time]`, by default 1."""
    if hasattr(tokens, "windows"):
        window = tokens.windows(start, context_length + 1)
    else:
        window = np.lib.stride_tricks.sliding_window_view(tokens, context_length + 1)[start]
    weights = np.ones((len(start), context_length)) if weights is None else weights
    arrays = {
        "inputs": window[:, :-1].astype(np.int32),
        "targets": window[:, 1:].astype(np.int32),
        "weights": weights.astype(np.float32),
    }
    if documents is not None:
        position = start[:, None].astype(np.int64) + np.arange(context_length + 1)[None, :]
        arrays = separate(arrays, segments(documents, position))
    return Examples(arrays)
