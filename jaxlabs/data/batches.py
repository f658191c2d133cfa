"""Batches as pure functions of (data set, seed, step).

Nothing here keeps a position: a run that stops at any step goes on from the step number alone. All
of it can be traced, so many steps, data included, fit into one compiled call.
"""

import jax
import jax.numpy as jnp
from flax import struct

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.shuffle import shuffle_index

Batch = dict[str, jax.Array]


@struct.dataclass
class TokenStream:
    """One long text, read in random windows with replacement.

    Attributes:
      tokens: [length] token numbers, in any integer type; the narrowest keeps device memory small.
      context: tokens that a model sees at once; a window holds one more, its last target.
    """

    tokens: jax.Array
    context_length: int = struct.field(pytree_node=False)


@struct.dataclass
class ContiguousStreams:
    """One long text, read from end to end by every row of the batch in a stretch of its own.

    What row i reads at one step goes on where it stopped at the step before, so that a recurrent
    network can carry its state along. An epoch ends when the stretches do; the next one cuts the
    text at other places.

    Attributes:
      tokens: see `TokenStream`.
      context: tokens that a row reads at one step.
    """

    tokens: jax.Array
    context_length: int = struct.field(pytree_node=False)

    def windows(self, batch_size: int) -> int:
        """Returns the steps of an epoch; one is left out if there are two, to vary the cuts.

        Raises:
          UserError: the text is shorter than one window for every row.
        """
        length, step = self.tokens.shape[0], batch_size * self.context_length
        if length < step + 1:
            raise UserError(
                f"--batch_size={batch_size}: the training text has {length:,} tokens; so many"
                f" streams of --context_length={self.context_length} need at least {step + 1:,}"
            )
        fitting = (length - 1) // step
        return max(1, fitting - 1)


@struct.dataclass
class Examples:
    """A finite set of examples, read in epochs or in stored order.

    Attributes:
      arrays: by name, each [count, ...]. An array called "weights" says how much each example (or
        each of its positions) counts; without it every example counts 1.
    """

    arrays: dict[str, jax.Array]

    @property
    def count(self) -> int:
        """Number of examples."""
        return next(iter(self.arrays.values())).shape[0]


def batch_at(
    dataset: TokenStream | ContiguousStreams | Examples,
    seed: int | jax.Array,
    step: int | jax.Array,
    batch_size: int,
) -> Batch:
    """Returns the batch of one training step.

    A `TokenStream` gives windows whose starts are uniform over all that fit, drawn anew each step.
    `ContiguousStreams` give every row the piece after its last one. `Examples` are read in epochs,
    each in its own order in which every example comes once; what is missing in the last batch of an
    epoch is filled up with weight 0.

    Args:
      dataset: where to read; pass it as an argument of a compiled function, not as a constant.
      seed: the run's seed, below 2**32; a Python int or a traced uint32.
      step: the step, counted from 0; a Python int or a traced int32.
      batch_size: examples in the batch, static.

    Returns:
      From a text: inputs and targets [batch, context] int32, targets one token later; weights
      [batch, context] float32, all 1; from `ContiguousStreams` also fresh [batch] bool, whether a
      row
      starts anew. From `Examples`: their arrays, [batch, ...] each, and weights, at least [batch],
      float32. All: example [batch] int32, the row's number 0..batch-1.

    Raises:
      UserError: the text is shorter than one window.
    """
    key = keys.stream(seed, "data")
    step = jnp.asarray(step, jnp.int32)
    if isinstance(dataset, TokenStream):
        return _random_windows(dataset, jax.random.fold_in(key, step), batch_size)
    if isinstance(dataset, ContiguousStreams):
        return _next_pieces(dataset, key, step, batch_size)
    epoch, index = jnp.divmod(step, num_batches(dataset, batch_size))
    position, real = _positions(dataset, index, batch_size)
    order = shuffle_index(position, dataset.count, jax.random.fold_in(key, epoch))
    return _gather(dataset, order, real)


def eval_batch(examples: Examples, index: int | jax.Array, batch_size: int) -> Batch:
    """Returns the index-th batch in stored order, filled up with weight 0 past the last example."""
    position, real = _positions(examples, jnp.asarray(index, jnp.int32), batch_size)
    return _gather(examples, position, real)


def num_batches(examples: Examples, batch_size: int) -> int:
    """Returns how many batches hold every example once."""
    return -(-examples.count // batch_size)


def require_window(length: int, context_length: int) -> None:
    """Raises UserError if `length` tokens do not hold `context` inputs and their last target."""
    if length < context_length + 1:
        raise UserError(
            f"--context_length={context_length}: the text (or its held-out part) has {length:,}"
            " tokens; "
            f"one window needs at least {context_length + 1:,}"
        )


def _random_windows(stream: TokenStream, key: jax.Array, batch_size: int) -> Batch:
    length, context = stream.tokens.shape[0], stream.context_length
    require_window(length, context)
    start = jax.random.randint(key, (batch_size,), 0, length - context, jnp.int32)
    return _windows_from(stream, start)


def _next_pieces(
    streams: ContiguousStreams, key: jax.Array, step: jax.Array, batch_size: int
) -> Batch:
    windows = streams.windows(batch_size)
    epoch, index = jnp.divmod(step, windows)
    stretch = windows * streams.context_length
    spare = streams.tokens.shape[0] - batch_size * stretch
    first = jax.random.randint(jax.random.fold_in(key, epoch), (), 0, spare, jnp.int32)
    row = jnp.arange(batch_size, dtype=jnp.int32)
    start = first + row * stretch + index * streams.context_length
    return _windows_from(streams, start) | {"fresh": jnp.full((batch_size,), index == 0)}


def _windows_from(stream: TokenStream | ContiguousStreams, start: jax.Array) -> Batch:
    """Returns the windows that begin at `start [batch]`."""
    context = stream.context_length
    place = start[:, None] + jnp.arange(context + 1, dtype=jnp.int32)[None, :]
    window = jnp.asarray(stream.tokens)[place].astype(jnp.int32)
    return {
        "inputs": window[:, :-1],
        "targets": window[:, 1:],
        "weights": jnp.ones((start.shape[0], context), jnp.float32),
        "example": jnp.arange(start.shape[0], dtype=jnp.int32),
    }


def _positions(examples: Examples, index: jax.Array, batch_size: int):
    """Returns the places [batch] of one batch and which of them exist; the rest repeat the last."""
    position = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    return jnp.minimum(position, examples.count - 1), position < examples.count


def _gather(examples: Examples, place: jax.Array, real: jax.Array) -> Batch:
    batch = {name: jnp.asarray(array)[place] for name, array in examples.arrays.items()}
    weights = batch.get("weights", jnp.ones(place.shape, jnp.float32)).astype(jnp.float32)
    mask = real.reshape(real.shape + (1,) * (weights.ndim - 1))
    batch["weights"] = jnp.where(mask, weights, 0.0)
    batch["example"] = jnp.arange(place.shape[0], dtype=jnp.int32)
    return batch
