"""Long-range memory tasks, the adding problem and the copying task, with their naive baselines.

The adding problem is experiment 4 of Hochreiter and Schmidhuber 1997, "Long short-term memory", in
the form of Le, Jaitly and Hinton 2015, "A simple way to initialize recurrent networks of rectified
linear units"; the copying task is that of Arjovsky, Shah and Bengio 2016, "Unitary evolution
recurrent neural networks", section 4.1.
"""

import jax
import jax.numpy as jnp
import numpy as np

SYMBOLS, COPIED = 8, 10
"""Symbols of the copying task, and length of the copied sequence."""

BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1

ADDING_BASELINE = 1 / 6
"""Mean squared error of the constant prediction 1: the variance of a sum of two uniform numbers."""


def adding(key: jax.Array, batch: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Samples number sequences; the target is the sum of two marked numbers, one in each half.

    A batch has `batch` sequences of `length` numbers, at least 2.

    Returns:
      inputs `[batch, length, 2]`, a number in [0, 1) and its marker, 0 or 1; targets `[batch]`.
    """
    values_key, *marker_keys = jax.random.split(key, 3)
    values = jax.random.uniform(values_key, (batch, length), jnp.float32)
    halves = ((0, length // 2), (length // 2, length))
    markers = sum(
        jax.nn.one_hot(
            jax.random.randint(marker_key, (batch,), *half, jnp.int32), length, dtype=jnp.float32
        )
        for marker_key, half in zip(marker_keys, halves, strict=True)
    )
    return jnp.stack([values, markers], axis=-1), jnp.sum(values * markers, axis=1)


def copying(key: jax.Array, batch: int, delay: int) -> tuple[jax.Array, jax.Array]:
    """Samples symbols to be repeated after a delimiter, `delay` steps behind the last of them.

    A batch has `batch` sequences; the delay is at least 1.

    Returns:
      tokens and targets, int32 `[batch, time]` with time = delay + 20. Tokens: ten symbols, blanks,
      the delimiter, ten blanks. Targets: blanks, then the ten symbols.
    """
    symbols = jax.random.randint(key, (batch, COPIED), 0, SYMBOLS, jnp.int32)
    tokens = jnp.full((batch, delay + 2 * COPIED), BLANK, jnp.int32)
    targets = tokens.at[:, -COPIED:].set(symbols)
    tokens = tokens.at[:, :COPIED].set(symbols).at[:, COPIED + delay - 1].set(DELIMITER)
    return tokens, targets


def copying_baseline(delay: int) -> float:
    """Returns the nats per token of a memoryless model: uniform symbols after the delimiter."""
    return COPIED * np.log(SYMBOLS) / (delay + 2 * COPIED)
