"""Training data in the form that compiled steps read: on the devices, or stacked and prefetched."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import flax.struct
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxlabs.config import UserError
from jaxlabs.data.batches import Batch, TrainingData, on_host
from jaxlabs.data.host import HostBatch, read
from jaxlabs.training import jax_settings
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.run_config import RunConfig

MAX_STACKED = 16
"""Maximum number of batches in a stack; more would save little time per step."""

MAX_STACK_BYTES = 2**26
"""Size of a stack, which also bounds the number of its batches; two or three are in memory."""


@flax.struct.dataclass
class Stack:
    """The batches of consecutive steps, a device data set.

    Attributes:
      batches: arrays by name, `[steps, batch, ...]` each.
      first: [] int32, the step of the first batch.
    """

    batches: Batch
    first: jax.Array | np.int32

    def batch_at(self, seed: int | jax.Array, step: int | jax.Array, batch_size: int) -> Batch:
        """Returns the batch of one of the steps."""
        del seed, batch_size
        return jax.tree.map(lambda leaf: leaf[step - self.first], self.batches)


class Feed:
    """`feed.at(step) -> (dataset, end)`: data for the steps from `step` to before `end`.

    A device data set is replicated once. Batches of a host data set are stacked, so that one
    compiled call takes several steps; while it runs, a thread prepares the next stack. A process
    asks a host data set with `rows_at` for the rows of its own devices only.
    """

    def __init__(
        self,
        dataset: TrainingData,
        config: RunConfig,
        placement: MeshSharding,
        steps: int | None = None,
    ):
        """Takes the data; a host data set is not read yet.

        Args:
          dataset: the training data.
          config: the run's settings.
          placement: the mesh.
          steps: number of steps for which a host data set is read; None: that of the settings.
        """
        self._last = max((config.steps if steps is None else steps) - 1, 0)
        self._host = dataset if on_host(dataset) else None
        self._replicated = placement.replicate(None if self._host else dataset)
        self._config, self._placement = config, placement
        self._rows = slice(0, config.batch_size)  # that this process reads
        if hasattr(self._host, "rows_at"):
            self._rows = _own_rows(placement.batch_sharding, config.batch_size)
        self._size, self._shapes = 0, {}
        self._current: tuple[int, Stack] | None = None
        self._next: tuple[int, Future[Stack]] | None = None
        self._thread = ThreadPoolExecutor(1, "batches")
        self._settings = jax_settings.of_this_thread()

    def at(self, step: int) -> tuple[Any, int]:
        """Returns data for the steps from `step` on, and the step where they end.

        Raises:
          UserError: the host data set cannot give a batch.
        """
        if self._host is None:
            return self._replicated, sys.maxsize
        first, stack = self._current or (step, None)
        if stack is None or not first <= step < first + self._size:
            self._current = step, self._stack_from(step)
            self._prefetch(step + self._size)
        first, stack = self._current
        return stack, first + self._size

    def _stack_from(self, step: int) -> Stack:
        if not self._shapes:  # the first batch gives the shapes, and how many batches fit
            batch = self._batch(step)
            count = self._rows.stop - self._rows.start
            _require_contract(batch, step, count)
            self._shapes = _shapes(batch)
            # The size of the whole batch, so that stacks are equally long in all processes.
            size = sum(array.nbytes for array in batch.values()) * self._config.batch_size // count
            fitting = MAX_STACK_BYTES // size
            self._size = max(1, min(MAX_STACKED, self._config.steps_per_call, fitting))
            return self._load(step, {step: batch})
        expected, future = self._next or (None, None)
        return future.result() if expected == step else self._load(step, {})

    def _prefetch(self, step: int) -> None:
        def load() -> Stack:
            with jax_settings.applied(self._settings):
                return self._load(step, {})

        self._next = (step, self._thread.submit(load)) if step <= self._last else None

    def _load(self, first: int, known: dict[int, HostBatch]) -> Stack:
        """Returns the stack of the steps from `first` on; some batches may be known."""
        # Past the last step the last batch is repeated, which no step reads.
        steps = [min(step, max(first, self._last)) for step in range(first, first + self._size)]
        batches = {step: known.get(step) or self._batch(step) for step in sorted(set(steps))}
        for step, batch in batches.items():
            for name, shape in (self._shapes | _shapes(batch)).items():
                if shape != (expected := self._shapes.get(name, "absent")) or name not in batch:
                    found = shape if name in batch else "absent"
                    line = f"{name} is {found} in the batch after step {step}, {expected} before"
                    raise UserError(f"training data: {line}")
        stacked = {
            name: self._shard(np.stack([batches[step][name] for step in steps]))
            for name in self._shapes
        }
        # Not placed: the thread would wait for the other processes of a run.
        return Stack(stacked, np.int32(first))

    def _batch(self, step: int) -> HostBatch:
        """Returns the rows of a batch that this process reads."""
        what, config = f"the batch after step {step}", self._config
        arguments = config.seed, step, config.batch_size
        if not hasattr(self._host, "rows_at"):
            return read(what, self._host.batch_at, *arguments)
        return read(what, self._host.rows_at, *arguments, self._rows.start, self._rows.stop)

    def _shard(self, stacked: np.ndarray) -> jax.Array:
        """Places `[steps, rows, ...]` so that every device holds its share of each batch."""
        batch_size, offset = self._config.batch_size, self._rows.start
        by_row = self._placement.batch_sharding
        sharding = NamedSharding(by_row.mesh, PartitionSpec(None, *by_row.spec))

        def share(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[1].indices(batch_size)
            return stacked[:, start - offset : stop - offset]

        shape = (len(stacked), batch_size, *stacked.shape[2:])
        return jax.make_array_from_callback(shape, sharding, share)


def _own_rows(sharding: NamedSharding, batch_size: int) -> slice:
    """Returns the rows of a batch from the first to the last one on a device of this process."""
    shares = sharding.addressable_devices_indices_map((batch_size,)).values()
    bounds = [index[0].indices(batch_size) for index in shares]
    return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))


def _shapes(batch: HostBatch) -> dict[str, str]:
    return {name: str(jax.typeof(array)) for name, array in batch.items()}


def _require_contract(batch: HostBatch, step: int, count: int) -> None:
    """Raises UserError unless a batch has what `TrainingData` promises; others have its shapes."""
    expected = dict.fromkeys(batch, f"[{count}, ...]")
    expected |= {"weights": f"[{count}, ...]", "example_index": f"int32[{count}]"}
    found = _shapes(batch)
    for name, shape in expected.items():
        rows = batch[name].shape[:1] if name in batch else ()
        if rows != (count,) or (name == "example_index" and found[name] != shape):
            line = f"{name} is {found.get(name, 'absent')} in the batch after step {step}"
            raise UserError(f"training data: {line}, expected {shape}")
