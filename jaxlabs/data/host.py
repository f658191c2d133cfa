"""Training examples on the host: a sequence, a function of the index, or a grain pipeline."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data.batches import Examples, shuffled_index
from jaxlabs.data.workers import ReadAhead

HostBatch = dict[str, np.ndarray]


class HostExamples:
    """Examples that are read or made one by one; example i is a function of i.

    With `shuffle` the batches are those of `jaxlabs.data.batches.Examples` with the same arrays:
    shuffled epochs, the last batch of an epoch padded with weight 0. Without, example n of the run
    is `examples[n]`, n = 0, 1, 2, ... without an end: for data with an order of their own, such as
    a `grain.MapDataset` with its `shuffle(seed)`.

    Example:
      >>> from jaxlabs.data.host import HostExamples
      >>> squares = HostExamples(lambda i: {"x": i * i}, count=5, shuffle=False)
      >>> squares.batch_at(seed=0, step=1, batch_size=2)["x"].tolist()
      [4, 9]
    """

    def __init__(
        self, examples: Any, count: int | None = None, *, shuffle: bool = True, workers: int = 0
    ):
        """Takes the examples; none is read yet.

        Args:
          examples: `examples[i]` or `examples(i)`, a dict of arrays or numbers by name. An entry
            named "weights" is the weight of the example or of each of its positions.
          count: number of examples; None: `len(examples)`. Not used without `shuffle`.
          shuffle: whether epochs are shuffled by the seed of the run.
          workers: number of processes that read batches ahead, by grain; then the examples must be
            picklable. 0: the process of the run reads them.

        Raises:
          ArgumentError: the number of examples is missing or too large; grain is not installed.
        """
        self._example = examples if callable(examples) else examples.__getitem__
        self._shuffle = shuffle
        if shuffle and count is None and not hasattr(examples, "__len__"):
            raise ArgumentError("count", "missing with a function; the number of examples")
        self.count = len(examples) if shuffle and count is None else count
        if shuffle and not 0 < self.count < 2**31:
            message = f"{self.count} is not accepted; 1 to {2**31 - 1} examples"
            raise ArgumentError("count", message)
        self._ahead = None
        if workers:
            alone = HostExamples(examples, count, shuffle=shuffle)
            self._ahead = ReadAhead(alone.rows_at, workers)

    def batch_at(self, seed: int, step: int, batch_size: int) -> HostBatch:
        """Returns the batch of one training step, see `jaxlabs.data.batches.TrainingData`.

        Raises:
          UserError: an example cannot be read, or has another form than the others.
        """
        return self.rows_at(seed, step, batch_size, 0, batch_size)

    def rows_at(self, seed: int, step: int, batch_size: int, start: int, stop: int) -> HostBatch:
        """Returns the rows from `start` to before `stop` of a batch; no other example is read."""
        if self._ahead is not None:
            return self._ahead(seed, step, batch_size, start, stop)
        if self._shuffle:
            with jax.default_device(cpu()):
                shuffled = _shuffled(self.count, np.uint32(seed), step, batch_size)
            index, valid = (rows[start:stop] for rows in jax.device_get(shuffled))
        else:
            index = step * batch_size + np.arange(start, stop)
            valid = np.ones(stop - start, bool)
        batch = self._stack(index)
        weights = batch.get("weights", np.ones(len(index))).astype(np.float32)
        mask = valid.reshape(valid.shape + (1,) * (weights.ndim - 1))
        batch["weights"] = np.where(mask, weights, np.float32(0))
        batch["example_index"] = np.arange(start, stop, dtype=np.int32)
        return batch

    def take(self, index: Any) -> Examples:
        """Returns the examples at some indices, as a set for evaluation."""
        return Examples(self._stack(np.asarray(index)))

    def _stack(self, index: np.ndarray) -> HostBatch:
        examples = [read(f"example {i}", self._example, int(i)) for i in index]
        expected = _form(examples[0])
        for i, example in zip(index, examples, strict=True):
            if (form := _form(example)) != expected:
                first = f"{expected} of example {index[0]}"
                raise UserError(f"training data: example {i} is {form}, unlike {first}")
        return {name: np.stack([one[name] for one in examples]) for name in examples[0]}


class HostArrays(HostExamples):
    """The batches of `jaxlabs.data.batches.Examples`, from arrays that stay on the host.

    An array may read its rows when it is indexed, such as a memory map.

    Attributes:
      arrays: by name, `[count, ...]` each; `array[index]` with an array of indices is in memory.
    """

    def __init__(self, arrays: Mapping[str, Any]):
        """Takes the arrays; nothing is read yet."""
        self.arrays = dict(arrays)
        super().__init__(lambda i: self._stack(np.array([i])), len(next(iter(arrays.values()))))

    def _stack(self, index: np.ndarray) -> HostBatch:
        return {name: _numbers(name, array[index]) for name, array in self.arrays.items()}


def read(what: str, source: Callable[..., Any], *arguments: Any) -> HostBatch:
    """Returns what `source(*arguments)` gives as arrays by name, in dtypes that devices hold.

    Raises:
      UserError: it fails or gives anything else; the line names `what`, such as "example 3".
    """
    try:
        values = source(*arguments)
        if not isinstance(values, Mapping):
            kind = type(values).__name__
            raise UserError(f"training data: {what} is {kind}, expected a dict of arrays by name")
        return {name: _numbers(name, value) for name, value in values.items()}
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"training data: {what}: {type(error).__name__}: {text}") from error


def _numbers(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    try:
        return array.astype(jax.typeof(array).dtype, copy=False)
    except TypeError as error:
        raise TypeError(f"{name} is {array.dtype}, expected numbers") from error


_shuffled = functools.partial(jax.jit, static_argnums=(0, 3))(shuffled_index)


def cpu() -> jax.Device | None:
    """Returns a device that does not wait for the training steps; None if the platform has none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _form(example: HostBatch) -> str:
    """Returns names, dtypes and shapes, such as `x float32[28,28]`."""
    return ", ".join(f"{name} {jax.typeof(array)}" for name, array in sorted(example.items()))
