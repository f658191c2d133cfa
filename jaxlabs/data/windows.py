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
    count = -(-targets // context_length)
    padded = np.zeros(count * context_length + 1, np.int32)
    padded[: len(tokens)] = tokens
    weights = np.arange(count * context_length) < targets
    return _examples(padded[:-1], padded[1:], weights, shape=(count, context_length))


def random_windows(tokens: np.ndarray, context_length: int, count: int, seed: int) -> Examples:
    """Returns `count` windows with uniformly random starts, sampled with replacement."""
    require_window(len(tokens), context_length)
    key = keys.stream(seed, "windows")
    start = np.asarray(jax.random.randint(key, (count,), 0, len(tokens) - context_length, np.int32))
    return _windows(tokens, context_length, start)


def evenly_spaced_windows(tokens: np.ndarray, context_length: int, count: int) -> Examples:
    """Returns `count` windows with evenly spaced starts, or all windows if fewer fit."""
    return _windows(tokens, context_length, _evenly_spaced_starts(tokens, context_length, count))


def sliding_windows(tokens: np.ndarray, context_length: int, stride: int) -> Examples:
    """Returns overlapping windows that score every target once, almost all from a full context.

    The first window scores all its targets, each further window its last `stride` targets (the last
    window the remaining ones). A scored target is thus predicted from more than
    `context_length - stride` tokens, and with a stride of 1 from `context_length` tokens. The cost
    is `context_length / stride` times that of `consecutive_windows`.

    Raises:
      UserError: no window fits.
    """
    require_window(len(tokens), context_length)
    last = len(tokens) - context_length - 1
    start = np.append(np.arange(0, last, stride), last)
    windows = _windows(tokens, context_length, start)
    first_scored = np.append(0, start[:-1] + context_length)
    position = start[:, None] + np.arange(context_length)[None, :]
    weights = (position >= first_scored[:, None]).astype(np.float32)
    return Examples(arrays={**windows.arrays, "weights": weights})


def _evenly_spaced_starts(tokens: np.ndarray, context_length: int, count: int) -> np.ndarray:
    require_window(len(tokens), context_length)
    fitting = len(tokens) - context_length
    count = min(count, fitting)
    return np.arange(count) * (fitting - 1) // max(count - 1, 1)


def _windows(tokens: np.ndarray, context_length: int, start: np.ndarray) -> Examples:
    window = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), context_length + 1)[start]
    shape = (len(start), context_length)
    return _examples(window[:, :-1], window[:, 1:], np.ones(shape), shape=shape)


def _examples(inputs, targets, weights, shape: tuple[int, int]) -> Examples:
    return Examples(
        arrays={
            "inputs": inputs.reshape(shape).astype(np.int32),
            "targets": targets.reshape(shape).astype(np.int32),
            "weights": weights.reshape(shape).astype(np.float32),
        }
    )
