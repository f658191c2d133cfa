"""Batches that worker processes of grain read ahead.

Python examines one example at a time in a process: examples that are decoded or made in Python take
as many cores as there are workers.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlabs.config import ArgumentError, UserError

BUFFERED = 2
"""Batches that each worker reads ahead."""


class ReadAhead:
    """`rows(seed, step, ...)` of consecutive steps, in turn by worker processes.

    Calls with the next step and the same other arguments are read ahead. Any other call starts new
    processes, so that the result is that of `rows` alone.
    """

    def __init__(self, rows: Callable[..., Any], workers: int):
        """Takes what is called in the workers; no process starts yet.

        Args:
          rows: `rows(seed, step, *others)`, arrays by name; a picklable pure function of integers.
          workers: number of processes, at least 1.

        Raises:
          ArgumentError: grain is not installed.
        """
        try:
            import grain
        except ImportError:
            message = f"{workers} need grain, which is not installed; pip install 'jaxlabs[grain]'"
            raise ArgumentError("workers", message) from None
        self._grain, self._rows, self._workers = grain, rows, workers
        self._iterator, self._next = None, ()
        atexit.register(_close, weakref.ref(self))

    def __call__(self, seed: int, step: int, *others: int) -> dict[str, np.ndarray]:
        """Returns `rows(seed, step, *others)`; raises what it raises."""
        arguments = int(seed), int(step), *map(int, others)
        if arguments != self._next:
            self.close()
            self._iterator = iter(self._dataset(_Steps(self._rows, *arguments)))
        rows = next(self._iterator)
        if isinstance(rows, str):
            self.close()
            raise UserError(rows)
        self._next = arguments[0], arguments[1] + 1, *arguments[2:]
        # Copied, since grain's arrays hold shared memory, which must end before Python does.
        return {name: np.array(array) for name, array in rows.items()}

    def close(self) -> None:
        """Ends the processes."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator, self._next = None, ()

    def _dataset(self, steps: "_Steps") -> Any:
        from absl import flags

        grain = self._grain
        if not flags.FLAGS.is_parsed():  # grain reads flags of its own, outside of an absl program
            flags.FLAGS.mark_as_parsed()
        _pickle_lab_files_by_value()
        reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        dataset = grain.MapDataset.source(steps).to_iter_dataset(reading)
        options = grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=BUFFERED)
        return dataset.mp_prefetch(options, worker_init_fn=_start)


def _close(reference: weakref.ref) -> None:
    if (ahead := reference()) is not None:
        ahead.close()


class _Steps:
    """Element i is the batch of the i-th step from a first one on; a string if it has an error."""

    def __init__(self, rows: Callable[..., Any], seed: int, first: int, *others: int):
        self._rows, self._seed, self._first, self._others = rows, seed, first, others

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Any:
        try:
            return self._rows(self._seed, self._first + int(index), *self._others)
        except UserError as error:  # not all errors can be sent to another process
            return str(error)

    def __repr__(self) -> str:
        return "batches"


def _pickle_lab_files_by_value() -> None:
    """Lets workers have what a lab's file defines, which they cannot import by its name."""
    import cloudpickle

    for name, module in list(sys.modules.items()):
        loaded = isinstance(getattr(module, "__file__", None), str)
        if loaded and getattr(module, "__spec__", module) is None and name != "__main__":
            cloudpickle.register_pickle_by_value(module)


def _start(index: int, count: int) -> None:
    """Prepares a worker: it leaves Ctrl-C and the accelerators to the run, and ends with it."""
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(0)
