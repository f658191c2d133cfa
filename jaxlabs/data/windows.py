"""The split of a text, and the windows for evaluation.

Every function returns `Examples` with `inputs [count, time]` and `targets [count, time]` int32,
which are the inputs shifted by one token, and `weights [count, time]` float32, 0 where a target is
not scored. A text of fewer than context_length + 1 tokens raises UserError with both numbers.
"""

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, TokenStream, require_window


def split_text(text: str) -> tuple[str, str]:
    """Returns the first 90 % for training and the held-out rest (nanoGPT's split)."""
    border = int(0.9 * len(text))
    return text[:border], text[border:]


def token_stream(tokens: np.ndarray, context_length: int) -> TokenStream:
    """Returns the training stream over `tokens [length]`; raises if the text is too short."""
    require_window(len(tokens), context_length)
    return TokenStream(tokens=tokens, context_length=context_length)


def consecutive_windows(tokens: np.ndarray, context_length: int) -> Examples:
    """Returns non-overlapping windows that score each of the length - 1 targets exactly once."""
    require_window(len(tokens), context_length)
    targets = len(tokens) - 1
    start = np.arange(0, targets, context_length)
    padded = np.pad(tokens, (0, int(start[-1]) + context_length - targets))
    weights = np.arange(start.size * context_length) < targets
    return _windows(padded, context_length, start, weights.reshape(-1, context_length))


def random_windows(tokens: np.ndarray, context_length: int, count: int, seed: int) -> Examples:
    """Returns `count` windows with uniformly random starts, sampled with replacement."""
    require_window(len(tokens), context_length)
    key = keys.stream(seed, "windows")
    start = jax.random.randint(key, (count,), 0, len(tokens) - context_length, np.int32)
    return _windows(tokens, context_length, np.asarray(start))


def evenly_spaced_windows(tokens: np.ndarray, context_length: int, count: int) -> Examples:
    """Returns `count` windows with evenly spaced starts, or all windows if fewer fit."""
    require_window(len(tokens), context_length)
    fitting = len(tokens) - context_length
    count = min(count, fitting)
    start = np.arange(count) * (fitting - 1) // max(count - 1, 1)
    return _windows(tokens, context_length, start)


def sliding_windows(tokens: np.ndarray, context_length: int, stride: int) -> Examples:
    """Returns overlapping windows that score every target once, almost all from a full context.

    The first window scores all its targets, each further window its last `stride` targets (the last
    window the remaining ones). A scored target is thus predicted from more than
    `context_length - stride` tokens, and with a stride of 1 from `context_length` tokens. The cost
    is `context_length / stride` times that of `consecutive_windows`.
    """
    require_window(len(tokens), context_length)
    last = len(tokens) - context_length - 1
    start = np.append(np.arange(0, last, stride), last)
    first_scored = np.append(0, start[:-1] + context_length)
    position = start[:, None] + np.arange(context_length)[None, :]
    return _windows(tokens, context_length, start, position >= first_scored[:, None])


def _windows(
    tokens: np.ndarray, context_length: int, start: np.ndarray, weights: np.ndarray | None = None
) -> Examples:
    """Returns the windows at `start [count]`; `weights [count, time]`, by default 1."""
    window = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), context_length + 1)[start]
    weights = np.ones((len(start), context_length)) if weights is None else weights
    return Examples(
        arrays={
            "inputs": window[:, :-1].astype(np.int32),
            "targets": window[:, 1:].astype(np.int32),
            "weights": weights.astype(np.float32),
        }
    )
