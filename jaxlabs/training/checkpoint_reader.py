"""Reads checkpoints in one process: their metadata, their arrays, the parameters of a run."""

import os
import pathlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.run_folder import renamed
from jaxlabs.training.checkpoint_arrays import abstract_array, require_checksum
from jaxlabs.training.orbax_errors import forget_abandoned_reads, silence_logs

METADATA = "facts"
"""Name of the JSON item on disk, unchanged since the first version."""

CHECKSUM = "fingerprint"
SHAPES = "shapes"


class CheckpointReader:
    """Reads the checkpoints of a folder in this process, without the others of a run.

    Orbax's manager waits for all processes after a read, and one that finds damage would not come.
    """

    def __init__(self, path: pathlib.Path, *, links: bool):
        """Takes a folder, which may be missing.

        Args:
          path: the folder of the checkpoints.
          links: whether a checkpoint may be a link; it can be read, but not be deleted by the
            policy.

        Raises:
          UserError: it has other entries than regular files and folders.
        """
        silence_logs()
        _require_own_files(path, links=links)
        self._path = path.absolute()
        self._checkpointer = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=None, active_processes={jax.process_index()}
            ),
        )

    def metadata(self, step: int) -> dict[str, Any]:
        """Returns the metadata of a checkpoint."""
        return renamed.checkpoint(self._read(step, **{METADATA: ocp.args.JsonRestore()})[METADATA])

    def arrays(
        self, step: int, shapes: Mapping[str, str], sharding: Callable[[str], jax.sharding.Sharding]
    ) -> dict[str, jax.Array]:
        """Returns the arrays of a checkpoint by stored name.

        Args:
          step: the step of the checkpoint.
          shapes: dtype and shape of every array, from the metadata.
          sharding: `stored name -> sharding` of the returned array.
        """
        forget_abandoned_reads()
        abstract = {name: abstract_array(shape, sharding(name)) for name, shape in shapes.items()}
        state = self._read(step, state=ocp.args.StandardRestore(abstract)).state
        return {name: state[name] for name in shapes}

    def _read(self, step: int, **items: Any) -> Any:
        return self._checkpointer.restore(self._path / str(step), args=ocp.args.Composite(**items))


def read_newest_params(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Returns the parameters of the newest checkpoint in a folder: the EMA, if it has one.

    A process may call this without the others.

    Returns:
      Arrays by stored dotted name; None if there is no checkpoint.

    Raises:
      UserError: the checkpoint is damaged.
    """
    reader = CheckpointReader(path, links=True)
    step = max(ocp.utils.checkpoint_steps(path) if path.exists() else (), default=None)
    if step is None:
        return None
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        metadata = reader.metadata(step)
        arrays = reader.arrays(step, metadata[SHAPES], lambda _: sharding)
        require_checksum(arrays, metadata[CHECKSUM])
    except Exception as error:  # damage raises exceptions of many types
        raise UserError(f"{path}: the checkpoint of step {step} is damaged") from error
    averaged = any(name.startswith("ema_params.") for name in arrays)
    prefix = "ema_params." if averaged else "params."
    return {
        name.removeprefix(prefix): np.asarray(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _require_own_files(folder: pathlib.Path, *, links: bool) -> None:
    """Raises UserError unless the folder has only regular files and folders: a FIFO would block.

    Args:
      folder: the folder of the checkpoints.
      links: whether a checkpoint may be a link; it can be read, but not be deleted by the policy.
    """
    # Unlike `rglob`, `walk` passes over what a training process deletes meanwhile.
    walk = os.walk(folder)
    entries = (pathlib.Path(home, name) for home, *inside in walk for name in chain(*inside))
    for entry in entries:
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise ArgumentError(
                "workdir", f"{entry} is not a file; remove it, or the checkpoint that it is in"
            )
        if entry.is_symlink() and entry.parent == folder and not links:
            raise ArgumentError("workdir", f"{entry} is a link; replace it with its target")
