"""Batches as pure functions of (data set, seed, step).

Nothing here keeps a position: a run resumes at any step from the step number alone. All functions
can be traced, so one compiled call can hold many steps with their batches.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data import documents
from jaxlabs.data.shuffle import shuffle_index

Batch = dict[str, jax.Array]


class TrainingData(Protocol):
    """Training data: a batch is a pure function of the seed and the step, with no position to keep.

    A pytree of arrays, such as a `flax.struct.dataclass`, is a device data set: it is copied to the
    devices, and `batch_at` is traced into the compiled steps. An object of any other class is a
    host data set: `batch_at` is called in a thread and returns numpy arrays. Both give the same run
    if they give the same batches.

    A host data set may also have `rows_at(seed, step, batch_size, start, stop)`, which returns the
    rows from `start` to before `stop` of that batch: then each process of a run reads only the rows
    of its devices. Without it, each process reads whole batches.
    """

    def batch_at(self, seed: int | jax.Array, step: int | jax.Array, batch_size: int) -> Batch:
        """Returns the batch of one training step.

        Args:
          seed: the run's seed, below 2**32; a Python int, or a traced uint32.
          step: the step, counted from 0; a Python int, or a traced int32.
          batch_size: number of examples; static.

        Returns:
          Arrays by name, `[batch, ...]` each, of the same shapes and dtypes at every step: those
          that the loss reads, `weights` (0 for padding) and `example_index [batch]` int32, the row.
        """


def on_host(dataset: TrainingData) -> bool:
    """Returns whether training data are a host data set, see `TrainingData`."""
    return jax.tree_util.all_leaves([dataset])


@struct.dataclass
class TokenStream:
    """One long text, read in random windows sampled with replacement.

    Attributes:
      tokens: `[length]` token ids, of any integer dtype; the narrowest saves device memory.
      context_length: input tokens of a window, which holds one more token, the last target.
      document_starts: `[documents]` int32, first token of each document, if the documents are
        separate, see `jaxlabs.data.documents`; None: they are joined.
    """

    tokens: jax.Array
    context_length: int = struct.field(pytree_node=False)
    document_starts: jax.Array | None = None

    def batch_at(self, seed: int | jax.Array, step: int | jax.Array, batch_size: int) -> Batch:
        """Returns windows with uniformly random starts, sampled at each step."""
        key = jax.random.fold_in(keys.stream(seed, "data"), step)
        length, context = self.tokens.shape[0], self.context_length
        require_window(length, context)
        start = jax.random.randint(key, (batch_size,), 0, length - context, jnp.int32)
        batch = _windows_from(self, start)
        if self.document_starts is None:
            return batch
        position = start[:, None] + jnp.arange(context + 1, dtype=jnp.int32)[None, :]
        return documents.separate(batch, documents.segments(self.document_starts, position))


@struct.dataclass
class ContiguousStreams:
    """One long text for truncated BPTT: each row of the batch reads its own contiguous stream.

    Row i continues at each step where it stopped at the previous step, so that a recurrent network
    can carry its state. An epoch ends with the streams; the next epoch starts them at another
    random offset.

    Attributes:
      tokens: see `TokenStream`.
      context_length: tokens per row and step.
    """

    tokens: jax.Array
    context_length: int = struct.field(pytree_node=False)

    def windows(self, batch_size: int) -> int:
        """Returns the steps of an epoch: one fewer than fit, if two fit, to allow random offsets.

        Raises:
          UserError: the text is shorter than one window per row.
        """
        return steps_per_epoch(self.tokens.shape[0], batch_size, self.context_length)

    def batch_at(self, seed: int | jax.Array, step: int | jax.Array, batch_size: int) -> Batch:
        """Returns the next segment of every row."""
        windows = self.windows(batch_size)
        epoch, index = jnp.divmod(step, windows)
        stream_length = windows * self.context_length
        spare = self.tokens.shape[0] - batch_size * stream_length
        key = jax.random.fold_in(keys.stream(seed, "data"), epoch)
        offset = jax.random.randint(key, (), 0, spare, jnp.int32)
        row = jnp.arange(batch_size, dtype=jnp.int32)
        start = offset + row * stream_length + index * self.context_length
        return _windows_from(self, start) | {"is_first": jnp.full((batch_size,), index == 0)}


@struct.dataclass
class Examples:
    """A finite set of examples, read in shuffled epochs or in stored order.

    Attributes:
      arrays: by name, each `[count, ...]`. An array named "weights" is the weight of each example
        or of each of its positions; the default is 1.
    """

    arrays: dict[str, jax.Array]

    @property
    def count(self) -> int:
        """Number of examples."""
        return next(iter(self.arrays.values())).shape[0]

    def take(self, index: slice | np.ndarray) -> "Examples":
        """Returns the examples at some indices."""
        return Examples({name: array[index] for name, array in self.arrays.items()})

    def batch_at(self, seed: int | jax.Array, step: int | jax.Array, batch_size: int) -> Batch:
        """Returns the next examples of the epoch's order; the last batch is padded."""
        index, valid = shuffled_index(self.count, seed, step, batch_size)
        return _gather(self, index, valid)


def batch_at(
    dataset: TrainingData,
    seed: int | jax.Array,
    step: int | jax.Array,
    batch_size: int,
) -> Batch:
    """Returns the batch of one training step.

    A `TokenStream` gives windows with uniformly random starts, sampled at each step.
    `ContiguousStreams` give every row its next segment. `Examples` are read in epochs, each a
    permutation of all examples; the last batch of an epoch is padded with weight 0.

    Args:
      dataset: the data; pass it as an argument of a compiled function, not as a constant.
      seed: the run's seed, below 2**32; a Python int or a traced uint32.
      step: the step, counted from 0; a Python int or a traced int32.
      batch_size: number of examples; static.

    Returns:
      From a text: `inputs` and `targets [batch, time]` int32, the targets shifted by one token, and
      `weights [batch, time]` float32, all 1; with separate documents also `segments [batch, time]`
      int32, see `jaxlabs.data.documents`; from `ContiguousStreams` also `is_first [batch]` bool,
      true where a stream starts. From `Examples`: their arrays, `[batch, ...]` each, and `weights`,
      at least `[batch]`, float32. Always: `example_index [batch]` int32, the row 0..batch-1.

    Raises:
      UserError: the text is shorter than one window.
    """
    return dataset.batch_at(seed, jnp.asarray(step, jnp.int32), batch_size)


def shuffled_index(
    count: int, seed: int | jax.Array, step: int | jax.Array, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """Returns which of `count` examples are in a batch, and which of its rows are no padding.

    Every epoch has its own permutation of all examples.
    """
    epoch, batch = jnp.divmod(step, -(-count // batch_size))
    position, valid = _positions(count, batch, batch_size)
    key = jax.random.fold_in(keys.stream(seed, "data"), epoch)
    return shuffle_index(position, count, key), valid


def eval_batch(examples: Examples, index: int | jax.Array, batch_size: int) -> Batch:
    """Returns the index-th batch in stored order, padded with weight 0 past the last example.

    Its `example_index` counts the examples of the whole set.
    """
    index = jnp.asarray(index, jnp.int32)
    position, valid = _positions(examples.count, index, batch_size)
    batch = _gather(examples, position, valid)
    return batch | {"example_index": index * batch_size + batch["example_index"]}


def num_batches(examples: Examples, batch_size: int) -> int:
    """Returns the number of batches of one epoch."""
    return -(-examples.count // batch_size)


def require_window(length: int, context_length: int, argument: str = "context_length") -> None:
    """Raises UserError unless `length` tokens hold one window; the message names `argument`."""
    if length < context_length + 1:
        raise UserError(
            f"`{argument}`={context_length}: the text (or its held-out part) has {length:,}"
            f" tokens; one window needs at least {context_length + 1:,}"
        )


def steps_per_epoch(length: int, batch_size: int, context_length: int) -> int:
    """Returns the steps of an epoch of `ContiguousStreams` over `length` tokens.

    Raises:
      UserError: the text is shorter than one window per row.
    """
    step = batch_size * context_length
    if length < step + 1:
        raise UserError(
            f"`batch_size`={batch_size}: the training text has {length:,} tokens;"
            f" {batch_size:,} streams of {context_length:,} tokens need at least {step + 1:,}"
        )
    return max(1, (length - 1) // step - 1)


def _windows_from(stream: TokenStream | ContiguousStreams, start: jax.Array) -> Batch:
    """Returns the windows that start at `start [batch]`."""
    context = stream.context_length
    position = start[:, None] + jnp.arange(context + 1, dtype=jnp.int32)[None, :]
    window = jnp.asarray(stream.tokens)[position].astype(jnp.int32)
    return {
        "inputs": window[:, :-1],
        "targets": window[:, 1:],
        "weights": jnp.ones((start.shape[0], context), jnp.float32),
        "example_index": jnp.arange(start.shape[0], dtype=jnp.int32),
    }


def _positions(count: int, index: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Returns the positions of a batch and whether each is valid, `[batch]` each.

    Positions past the last example are clipped to it.
    """
    position = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    return jnp.minimum(position, count - 1), position < count


def _gather(examples: Examples, index: jax.Array, valid: jax.Array) -> Batch:
    batch = {name: jnp.asarray(array)[index] for name, array in examples.arrays.items()}
    weights = batch.get("weights", jnp.ones(index.shape, jnp.float32)).astype(jnp.float32)
    mask = valid.reshape(valid.shape + (1,) * (weights.ndim - 1))
    batch["weights"] = jnp.where(mask, weights, 0.0)
    batch["example_index"] = jnp.arange(index.shape[0], dtype=jnp.int32)
    return batch
