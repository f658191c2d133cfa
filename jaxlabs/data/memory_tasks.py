"""Tasks that only a long memory solves, drawn afresh for every batch, with what guessing costs.

The adding problem is experiment 4 of Hochreiter and Schmidhuber 1997, "Long short-term memory", in
the form of Le, Jaitly and Hinton 2015, "A simple way to initialize recurrent networks of rectified
linear units"; the copy task is that of Arjovsky, Shah and Bengio 2016, "Unitary evolution recurrent
neural networks", section 4.1.
"""

import jax
import jax.numpy as jnp
import numpy as np

SYMBOLS, COPIED = 8, 10
"""Of the copy task: different symbols, and how many are to be kept."""

BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1

ADDING_BASELINE = 1 / 6
"""Mean squared error of always answering 1: the variance of a sum of two uniform numbers."""


def adding(key: jax.Array, batch: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Draws sequences of numbers of which two are marked, one in each half; their sum is sought.

    Args:
      key: of the draw.
      batch: number of sequences.
      length: numbers in each, at least 2.

    Returns:
      inputs `[batch, time, 2]`, a number in [0, 1) and its mark, 0 or 1; targets `[batch]`.
    """
    values_key, *mark_keys = jax.random.split(key, 3)
    values = jax.random.uniform(values_key, (batch, length), jnp.float32)
    halves = ((0, length // 2), (length // 2, length))
    marks = sum(
        jax.nn.one_hot(
            jax.random.randint(mark_key, (batch,), *half, jnp.int32), length, dtype=jnp.float32
        )
        for mark_key, half in zip(mark_keys, halves, strict=True)
    )
    return jnp.stack([values, marks], axis=-1), jnp.sum(values * marks, axis=1)


def copying(key: jax.Array, batch: int, delay: int) -> tuple[jax.Array, jax.Array]:
    """Draws symbols to be kept over a delay and then repeated, when a delimiter asks for them.

    Args:
      key: of the draw.
      batch: number of sequences.
      delay: steps from the last symbol to the delimiter, at least 1.

    Returns:
      tokens and targets, both int32 `[batch, delay + 20]`: ten symbols, blanks, the delimiter, ten
      blanks; and blanks throughout but for the ten symbols at the end.
    """
    symbols = jax.random.randint(key, (batch, COPIED), 0, SYMBOLS, jnp.int32)
    tokens = jnp.full((batch, delay + 2 * COPIED), BLANK, jnp.int32)
    targets = tokens.at[:, -COPIED:].set(symbols)
    tokens = tokens.at[:, :COPIED].set(symbols).at[:, COPIED + delay - 1].set(DELIMITER)
    return tokens, targets


def copying_baseline(delay: int) -> float:
    """Returns the loss of knowing when to answer and guessing what, in nats per token."""
    return COPIED * np.log(SYMBOLS) / (delay + 2 * COPIED)
