"""A text's split, and the windows of it that evaluation reads.

Every function returns `Examples` of inputs and targets [count, context] int32, targets one token
later than inputs, and weights [count, context] float32, 0 where a target does not count. A text
that does not hold one window (context + 1 tokens) raises UserError, which names both numbers.
"""

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, TokenStream, require_window


def split_text(text: str) -> tuple[str, str]:
    """Returns the first 90 % for training and the rest, held out (nanoGPT's split)."""
    border = int(0.9 * len(text))
    return text[:border], text[border:]


def token_stream(tokens: np.ndarray, context_length: int) -> TokenStream:
    """Returns the training stream over tokens [length]; finds a text that is too short at once."""
    require_window(len(tokens), context_length)
    return TokenStream(tokens=tokens, context_length=context_length)


def consecutive_windows(tokens: np.ndarray, context_length: int) -> Examples:
    """Returns windows side by side that score each of the length - 1 targets exactly once."""
    require_window(len(tokens), context_length)
    targets = len(tokens) - 1
    count = -(-targets // context_length)
    padded = np.zeros(count * context_length + 1, np.int32)
    padded[: len(tokens)] = tokens
    weights = np.arange(count * context_length) < targets
    return _examples(padded[:-1], padded[1:], weights, shape=(count, context_length))


def random_windows(tokens: np.ndarray, context_length: int, count: int, seed: int) -> Examples:
    """Returns `count` windows whose starts are uniform over all that fit, with replacement."""
    require_window(len(tokens), context_length)
    key = keys.stream(seed, "windows")
    start = np.asarray(jax.random.randint(key, (count,), 0, len(tokens) - context_length, np.int32))
    return _windows(tokens, context_length, start)


def evenly_spaced_windows(tokens: np.ndarray, context_length: int, count: int) -> Examples:
    """Returns `count` windows from the first that fits to the last, or all of them if fewer fit."""
    return _windows(tokens, context_length, _evenly_spaced_starts(tokens, context_length, count))


def sliding_windows(tokens: np.ndarray, context_length: int, stride: int) -> Examples:
    """Returns overlapping windows that score every target once, almost all from a full context.

    The first window scores all its targets, each further one the `stride` at its end (the last one
    those that are left), so that a scored target sees more than `context - stride` tokens. With a
    stride of 1 each sees `context` of them; the cost is `context / stride` times that of
    `consecutive_windows`.

    Raises:
      UserError: no window fits.
    """
    require_window(len(tokens), context_length)
    last = len(tokens) - context_length - 1
    start = np.append(np.arange(0, last, stride), last)
    windows = _windows(tokens, context_length, start)
    scored_before = np.append(0, start[:-1] + context_length)
    place = start[:, None] + np.arange(context_length)[None, :]
    weights = (place >= scored_before[:, None]).astype(np.float32)
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
