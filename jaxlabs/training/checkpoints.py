"""Checkpoints with Orbax: the latest few and the best, written in the background, atomic.

A checkpoint holds the arrays of the state under flat dotted names and one JSON object, its
metadata: the identity settings, the hash of the data set, the data spec and the monitored loss. The
data position is `state.step`. The metadata include a checksum of the arrays, because the file
format detects a truncated file but not every flipped byte.
"""

import contextlib
import dataclasses
import errno
import logging
import math
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from jaxlabs.config import ArgumentError, Config, UserError
from jaxlabs.run_folder import renamed, unwritable
from jaxlabs.training.devices import sync_hosts
from jaxlabs.training.run_config import differing
from jaxlabs.training.state import TrainState, Tree, leaf_names

METADATA = "facts"
"""Name of the JSON item on disk, unchanged since the first version."""

LOSS = "loss"
CHECKSUM = "fingerprint"
SHAPES = "shapes"
SPARE_BYTES = 2**20
"""Disk space that must stay free beside the arrays, for metadata, metrics, samples and report."""

UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp(-[0-9]+)?")
"""Name of an incomplete checkpoint."""


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for pending writes."""

    def __init__(self, path: pathlib.Path, keep: int, *, read_only: bool = False):
        logging.getLogger("absl").addFilter(_is_not_from_orbax)
        self._losses: dict[int, float] = {}
        policies = [checkpoint_managers.LatestN(keep), _Best(self._losses)]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            read_only=read_only,
            create=not read_only,
        )
        self.path = path.absolute()
        _require_own_files(self.path, links=read_only)
        if not read_only and jax.process_index() == 0:
            # Incomplete checkpoints of a killed run. Orbax would remove them in a thread that can
            # outlive a short command.
            for entry in self.path.glob("*.orbax-checkpoint-tmp*"):
                if UNFINISHED.fullmatch(entry.name):
                    shutil.rmtree(entry, ignore_errors=True)
        self._read_only = read_only
        self._manager = ocp.CheckpointManager(self.path, options=options)
        self._reader = _lone_reader()
        for step in self.steps():
            with contextlib.suppress(Exception):  # damage is reported by `restore`
                self._record_loss(step, self.read_metadata(step)[LOSS])

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with _as_user_error(self.path):
            self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, metadata: dict[str, Any], loss: float | None) -> None:
        """Writes a checkpoint in the background.

        Args:
          state: the state to save; it may be donated as soon as this returns.
          metadata: JSON to save with it.
          loss: the monitored loss at this step, or None if it was not evaluated; only checkpoints
            with a loss can be the best one.

        Raises:
          UserError: the disk is full or cannot be written.
        """
        step = int(state.step)
        if step in self.steps():
            return
        self._record_loss(step, loss)
        metadata = metadata | {CHECKSUM: int(_checksum(state)), SHAPES: _shapes(state), LOSS: loss}
        items = {"state": ocp.args.StandardSave(_flatten(state))}
        items |= {METADATA: ocp.args.JsonSave(metadata)}
        with _as_user_error(self.path):
            self._manager.wait_until_finished()
            self._require_space(state)
            self._manager.save(step, args=ocp.args.Composite(**items))

    def read_metadata(self, step: int) -> dict[str, Any]:
        """Returns the metadata of the checkpoint of one step."""
        return renamed.checkpoint(self._read(step, **{METADATA: ocp.args.JsonRestore()})[METADATA])

    def require_run(self, config_class: type[Config], stored: Mapping[str, Any]) -> None:
        """Raises UserError if a checkpoint belongs to another run than a config.json.

        Args:
          config_class: class of the settings.
          stored: content of config.json.
        """
        for step in self.steps():
            words = []
            with contextlib.suppress(Exception):  # damage is reported by `restore`
                words = differing(config_class, self.read_metadata(step), stored)
            if words:
                raise ArgumentError(
                    "workdir",
                    f"the checkpoint of step {step} in {self.path} has other settings"
                    f" than config.json: {', '.join(words)}; restore config.json, or choose"
                    " another `workdir`",
                )

    def restore(self, like: TrainState, *, at_most: int | None = None) -> TrainState | None:
        """Returns the newest readable state, or None when there is no checkpoint.

        A damaged checkpoint is reported and the previous one is used. The damaged one is moved to
        `damaged/`, except by a mode that only reads. All processes of a run call this together, and
        restore the same step: damage that one of them finds counts for all.

        Args:
          like: a state of the same shapes and shardings; the values of its arrays do not matter.
            Without an optimizer state, that of the checkpoint is not restored.
          at_most: the largest step to restore; None: the newest.

        Raises:
          UserError: no checkpoint can be read (all stay in place), or the shapes of one differ
            from those of the model or optimizer.
        """
        candidates = [step for step in self.steps() if at_most is None or step <= at_most]
        damaged = []
        _forget_abandoned_reads()
        for step in _steps_of_process_0(candidates):
            try:
                state = self._restore_step(like, step)
            except UserError:
                raise
            except Exception as error:  # damage raises exceptions of many types
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                logging.getLogger("jaxlabs").warning(
                    "The checkpoint of step %d is damaged (%s); using the previous one.",
                    step,
                    reason,
                )
                damaged.append(step)
            else:
                if not self._read_only:
                    self._quarantine(damaged)
                return state
        if not damaged:
            return None
        raise ArgumentError(
            "workdir", f"no checkpoint in {self.path} can be read; `overwrite` starts over"
        )

    def _require_space(self, state: TrainState) -> None:
        """Raises UserError if the disk is nearly full: Orbax does not report it reliably."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.path).free < size + SPARE_BYTES:
            raise unwritable(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _record_loss(self, step: int, loss: float | None) -> None:
        if loss is not None and math.isfinite(loss):
            self._losses[step] = loss

    def _read(self, step: int, **items: Any) -> Any:
        """Returns items of a checkpoint, read by this process alone."""
        self._manager.wait_until_finished()
        return self._reader.restore(self.path / str(step), args=ocp.args.Composite(**items))

    def _restore_step(self, like: TrainState, step: int) -> TrainState:
        """Returns the state of one step; raises in all processes if one of them cannot read it."""
        with _in_all_processes():
            metadata, arrays = self._read_step(like, step)
        with _in_all_processes():  # only now: the checksum of sharded arrays needs all processes
            if int(_checksum(list(arrays.values()))) != metadata[CHECKSUM]:
                raise ValueError("its arrays do not match their checksum")
        renamed_arrays = {renamed.parameter(name): array for name, array in arrays.items()}
        if not self._read_only and renamed_arrays.keys() != arrays.keys():
            logging.getLogger("jaxlabs").warning(
                "The checkpoint of step %d has parameter names of an earlier version;"
                " dropout masks may differ from here on.",
                step,
            )
        leaves = [renamed_arrays[name] for name in leaf_names(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _read_step(self, like: TrainState, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the metadata and all arrays by stored name, also those that `like` lacks."""
        shapes, expected = self.read_metadata(step)[SHAPES], _shapes(like)
        stored = {renamed.parameter(name): shape for name, shape in shapes.items()}
        if like.opt_state == optax.EmptyState():
            needed = {n: s for n, s in stored.items() if not n.startswith("opt_state.")}
        else:
            needed = stored
        if needed != expected:
            name = next(n for n in [*expected, *needed] if needed.get(n) != expected.get(n))
            raise ArgumentError(
                "workdir",
                f"the checkpoint of step {step} in {self.path} is of another model or"
                f" version: {name} is {needed.get(name, 'absent')}, not"
                f" {expected.get(name, 'absent')}; another `workdir`",
            )
        # All arrays are read, since the checksum is of all.
        leaves = _flatten(like)
        abstract = {
            name: _abstract(shape, leaves.get(renamed.parameter(name), like.step).sharding)
            for name, shape in shapes.items()
        }
        restored = self._read(
            step, state=ocp.args.StandardRestore(abstract), **{METADATA: ocp.args.JsonRestore()}
        )
        return restored[METADATA], {name: restored.state[name] for name in shapes}

    def _quarantine(self, steps: list[int]) -> None:
        if not steps:
            return
        damaged = self.path / "damaged"
        if jax.process_index() == 0:
            damaged.mkdir(exist_ok=True)
            for step in steps:
                shutil.rmtree(damaged / str(step), ignore_errors=True)
                (self.path / str(step)).rename(damaged / str(step))
        # A process that listed the checkpoints earlier would save and restore other steps.
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._manager.reload()


def read_newest_params(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Returns the parameters of the newest checkpoint in a folder: the EMA, if it has one.

    A process may call this without the others.

    Returns:
      Arrays by dotted name; None if there is no checkpoint.

    Raises:
      UserError: the checkpoint is damaged.
    """
    logging.getLogger("absl").addFilter(_is_not_from_orbax)
    _require_own_files(path, links=True)
    step = max(ocp.utils.checkpoint_steps(path) if path.exists() else (), default=None)
    if step is None:
        return None
    place, reader = jax.sharding.SingleDeviceSharding(jax.local_devices()[0]), _lone_reader()
    _forget_abandoned_reads()

    def read(**items):
        return reader.restore(path.absolute() / str(step), args=ocp.args.Composite(**items))

    try:
        metadata = read(**{METADATA: ocp.args.JsonRestore()})[METADATA]
        shapes = metadata[SHAPES]
        abstract = {name: _abstract(shape, place) for name, shape in shapes.items()}
        state = read(state=ocp.args.StandardRestore(abstract)).state
        arrays = [state[name] for name in shapes]
        if int(_checksum(arrays)) != metadata[CHECKSUM]:
            raise ValueError("its arrays do not match their checksum")
    except Exception as error:  # damage raises exceptions of many types
        raise UserError(f"{path}: the checkpoint of step {step} is damaged") from error
    averaged = any(name.startswith("ema_params.") for name in shapes)
    prefix = "ema_params." if averaged else "params."
    return {
        renamed.parameter(name.removeprefix(prefix)): np.asarray(array)
        for name, array in zip(shapes, arrays, strict=True)
        if name.startswith(prefix)
    }


def _lone_reader() -> ocp.Checkpointer:
    """Returns what reads a checkpoint in this process without the others.

    The manager waits for all processes after a read, and one that finds damage would not come.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=None, active_processes={jax.process_index()}
    )
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=alone)


class _Best(checkpoint_managers.PreservationPolicy):
    """Preserves the checkpoint with the lowest loss.

    Orbax's own policy loses the losses when the folder is opened again, so that a resumed run would
    delete its best checkpoint.
    """

    def __init__(self, losses: dict[int, float]):
        self._losses = losses

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        scored = [info.step for info in checkpoints if info.step in self._losses]
        best = min(scored, key=self._losses.__getitem__, default=None)
        return [info.step == best for info in checkpoints]


NO_STEP = -1


def _steps_of_process_0(steps: Sequence[int]) -> Iterator[int]:
    """Yields process 0's steps in all processes, newest first: others may list other steps."""
    left = list(steps)
    while (step := sync_hosts(left.pop() if left else NO_STEP, False)[0]) != NO_STEP:
        yield step


@contextlib.contextmanager
def _in_all_processes() -> Iterator[None]:
    """Raises an exception in all processes if one of them raises one, in place of a deadlock.

    A UserError is raised at once: it ends the run.
    """
    failure = None
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        failure = error
    if sync_hosts(0, failure is not None)[1]:
        raise failure or RuntimeError("another process could not read it")


def _require_own_files(folder: pathlib.Path, *, links: bool) -> None:
    """Raises UserError unless the folder has only regular files and folders: a FIFO would block.

    Args:
      folder: the folder of the checkpoints.
      links: whether a checkpoint may be a link; it can be read, but not be deleted by the policy.
    """
    for entry in folder.rglob("*"):
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise ArgumentError(
                "workdir", f"{entry} is not a file; remove it, or the checkpoint that it is in"
            )
        if entry.is_symlink() and entry.parent == folder and not links:
            raise ArgumentError("workdir", f"{entry} is a link; replace it with its target")


@contextlib.contextmanager
def _as_user_error(path: pathlib.Path) -> Iterator[None]:
    """Replaces a disk error, which Orbax raises as various types, by a UserError."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        number = int(code[1])
        raise unwritable(path, OSError(number, os.strerror(number))) from None


def _forget_abandoned_reads() -> None:
    """Silences the abandoned reads of a damaged checkpoint, while the hook stays in place.

    Orbax reads all arrays concurrently and stops at the first error. TensorStore's threads finish
    the other reads after the event loop is closed, and Python would print a traceback for each.
    """
    if not isinstance(sys.unraisablehook, _WithoutAbandonedReads):
        sys.unraisablehook = _WithoutAbandonedReads(sys.unraisablehook)


@dataclasses.dataclass(frozen=True)
class _WithoutAbandonedReads:
    before: Callable[[Any], None]

    def __call__(self, lost: Any) -> None:
        if str(lost.exc_value) != "Event loop is closed":
            self.before(lost)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    """Filters the records of Orbax, which logs pages about errors that it raises anyway."""
    return record.levelno >= logging.CRITICAL or "orbax" not in pathlib.Path(record.pathname).parts


def _abstract(shape: str, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """Returns the abstract array of a stored shape, such as `float32[2,3]`."""
    dtype, sizes = re.match(r"(\w+)\[([\d,]*)\]", shape).groups()
    sizes = tuple(int(size) for size in sizes.split(",") if size)
    return jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype), sharding=sharding)


def _shapes(state: TrainState) -> dict[str, str]:
    return {name: str(jax.typeof(leaf)) for name, leaf in _flatten(state).items()}


def _flatten(state: TrainState) -> dict[str, jax.Array]:
    return dict(zip(leaf_names(state), jax.tree.leaves(state), strict=True))


@jax.jit
def _checksum(arrays: Tree) -> jax.Array:
    """Returns [] uint32: the sum of all words of the arrays, each times its own odd number."""
    total = jnp.uint32(0)
    for number, leaf in enumerate(jax.tree.leaves(arrays)):
        words = _words(leaf)
        index = jnp.arange(words.size, dtype=jnp.uint32) + jnp.uint32(number * 0x9E3779B1 % 2**32)
        total += jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """Returns the bits of an array as uint32 words `[count]`; narrow elements have their own."""
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    if leaf.dtype.itemsize >= 4:  # a wide element is several words
        return jax.lax.bitcast_convert_type(leaf, jnp.uint32).ravel()
    unsigned = {1: jnp.uint8, 2: jnp.uint16}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32).ravel()
