"""Checkpoints with Orbax: the latest few and the best, written in the background, atomic.

A checkpoint holds the arrays of the state under flat dotted names and one JSON object, its
metadata: the identity settings, the hash of the data set, the data spec and the monitored loss. It
is the same on every mesh and for any number of processes, each of which writes and reads its parts;
the data position is `state.step`. The metadata include a checksum of the arrays, because the file
format detects a truncated file but not every flipped byte.
"""

import contextlib
import errno
import logging
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from jaxlabs.config import ArgumentError, Config, UserError
from jaxlabs.run_folder import renamed, unwritable
from jaxlabs.training.checkpoint_arrays import (
    abstract_array,
    checksum,
    flatten,
    require_checksum,
    shapes_of,
)
from jaxlabs.training.checkpoint_reader import CHECKSUM, METADATA, SHAPES, CheckpointReader
from jaxlabs.training.devices import sync_hosts
from jaxlabs.training.orbax_errors import as_user_error
from jaxlabs.training.run_config import differing
from jaxlabs.training.sharding import leaf_sharding
from jaxlabs.training.state import TrainState, leaf_names

LOSS = "loss"
SPARE_BYTES = 2**20
"""Disk space that must stay free beside the arrays, for metadata, metrics, samples and report."""

UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp(-[0-9]+)?")
"""Name of an incomplete checkpoint."""


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for pending writes."""

    def __init__(self, path: pathlib.Path, keep: int, *, read_only: bool = False):
        self._losses: dict[int, float] = {}
        policies = [checkpoint_managers.LatestN(keep), _Best(self._losses)]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            read_only=read_only,
            create=not read_only,
            save_interval_steps=0 if read_only else 1,  # Orbax warns of another one that it ignores
        )
        self.path = path.absolute()
        self._reader = CheckpointReader(self.path, links=read_only)
        if not read_only and jax.process_index() == 0:
            # Incomplete checkpoints of a killed run. Orbax would remove them in a thread that can
            # outlive a short command.
            for entry in self.path.glob("*.orbax-checkpoint-tmp*"):
                if UNFINISHED.fullmatch(entry.name):
                    shutil.rmtree(entry, ignore_errors=True)
        self._read_only = read_only
        self._manager = ocp.CheckpointManager(self.path, options=options)
        for step in self.steps():
            with contextlib.suppress(Exception):  # damage is reported by `restore`
                self._record_loss(step, self.read_metadata(step)[LOSS])

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with as_user_error(self.path):
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
        arrays = flatten(state)
        metadata = metadata | {
            CHECKSUM: int(checksum(list(arrays.values()))),
            SHAPES: shapes_of(arrays),
            LOSS: loss,
        }
        items = {"state": ocp.args.StandardSave(arrays)}
        items |= {METADATA: ocp.args.JsonSave(metadata)}
        with as_user_error(self.path):
            self._manager.wait_until_finished()
            self._require_space(state)
            self._manager.save(step, args=ocp.args.Composite(**items))

    def read_metadata(self, step: int) -> dict[str, Any]:
        """Returns the metadata of the checkpoint of one step."""
        self._manager.wait_until_finished()
        return self._reader.metadata(step)

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
          like: a state of the same shapes, on the mesh to restore to, which need not be that of
            the checkpoint; the values of its arrays do not matter. Without an optimizer state, that
            of the checkpoint is not restored.
          at_most: the largest step to restore; None: the newest.

        Raises:
          UserError: no checkpoint can be read (all stay in place), or the shapes of one differ
            from those of the model or optimizer.
        """
        candidates = [step for step in self.steps() if at_most is None or step <= at_most]
        damaged = []
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

    def _restore_step(self, like: TrainState, step: int) -> TrainState:
        """Returns the state of one step; raises in all processes if one of them cannot read it."""
        with _in_all_processes():
            metadata, arrays = self._read_step(like, step)
        with _in_all_processes():  # only now: the checksum of sharded arrays needs all processes
            require_checksum(arrays, metadata[CHECKSUM])
        present = renamed.parameters(arrays, leaf_names(like))
        renamed_arrays = {present[name]: array for name, array in arrays.items()}
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
        metadata, leaves = self.read_metadata(step), flatten(like)
        shapes, expected = metadata[SHAPES], shapes_of(leaves)
        present = renamed.parameters(shapes, leaves)
        stored = {present[name]: shape for name, shape in shapes.items()}
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

        def sharding(name):
            if present[name] in leaves:
                return leaves[present[name]].sharding
            if like.mesh is None:
                return like.step.sharding
            return leaf_sharding(present[name], abstract_array(shapes[name], None).shape, like.mesh)

        # All arrays are read, since the checksum is of all.
        return metadata, self._reader.arrays(step, shapes, sharding)

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
