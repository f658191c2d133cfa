"""Restoring a trained run: its settings, its data and its state."""

import contextlib
from collections.abc import Mapping
from typing import Any

from jaxlabs import paths
from jaxlabs.config import RUNTIME, UserError, canonical, path_settings, settings
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Invocation
from jaxlabs.runner.opening import check_same_run, require_lab
from jaxlabs.training import devices, precision
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_config import MACHINE, RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


def restore(request: Invocation) -> tuple[Any, Task, dict[str, Any], TrainState]:
    """Returns (config, task, metadata, state) of a trained run; see `_with_overrides` for config.

    Raises:
      UserError: no run, no checkpoint, or a flag that contradicts the run.
    """
    folder, stored = request.folder(), _read_run(request)
    config = _with_overrides(request, stored["settings"])
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    with Checkpoints(folder.checkpoints, config.keep_checkpoints, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"--workdir: {folder.path} holds no checkpoint yet; train first")
        checkpoints.require_run(type(config), stored)
        step = _best_step(folder, steps) if request.checkpoint == "best" else steps[-1]
        metadata = _readable_metadata(checkpoints, [one for one in steps if one <= step])
        chosen = precision.resolve_precision(config, stored_precision(request))
        resolved = precision.with_precision(config, chosen)
        task = request.lab.build_task(resolved, metadata["data_spec"])
        like = initial_state(task, config, devices.data_parallel())
        state = checkpoints.restore(like, at_most=step)
    return config, task, metadata, state


def load_data(request: Invocation, config: RunConfig) -> DataModule:
    """Loads the data of a trained run from their present path.

    Raises:
      UserError: the data are missing, or differ from those of the run.
    """
    stored = request.folder().read_config()
    try:
        data = request.lab.load_data(config)
    except UserError:
        path = path_settings(type(config), config.flat()).get("dataset")
        if (
            path is None
            or "dataset" in request.overrides
            or paths.local(path, "--dataset").exists()
        ):
            raise
        raise UserError(
            f"--dataset: {path!r}, the data of the run in {request.folder().path}, is missing;"
            " give its present path"
        ) from None
    check_same_run(stored, request, config, data)
    return data


def require_data_given(request: Invocation) -> None:
    """Raises UserError if `--dataset` contradicts the run, in a mode that reads no data."""
    stored = request.folder().read_config()["settings"]
    if request.overrides.get("dataset", stored["dataset"]) != stored["dataset"]:
        load_data(request, _with_overrides(request, stored))


def stored_precision(request: Invocation) -> str | None:
    """Returns the resolved `matmul_precision` of the stored run; None for a new run."""
    folder = request.folder()
    if request.overwrite or not folder.exists():
        return None
    stored = folder.read_config()
    tuned = stored.get("tuned", stored["settings"])
    return canonical(request.lab.config_class, tuned).get(precision.SETTING)


def _read_run(request: Invocation) -> dict[str, Any]:
    """Returns config.json of the run in the run folder.

    Raises:
      UserError: there is none, or it belongs to another lab, preset or sweep.
    """
    folder = request.folder()
    stored = folder.read_config()
    require_lab(stored, request)
    if "sweep" in stored:
        raise UserError(
            f"--workdir: the sweep {stored['sweep']} is there; the folder of one of its runs in"
            f" {folder.runs} is needed"
        )
    default = next(iter(request.lab.presets))
    if request.preset not in (default, stored.get("preset")):
        raise UserError(
            f"--preset: {request.preset} differs from {stored.get('preset')} of the run in"
            f" {folder.path}; leave the flag out"
        )
    return stored


def _with_overrides(request: Invocation, stored: Mapping[str, Any]) -> RunConfig:
    """Returns the settings of a stored run, with the runtime flags of the command line.

    `--dataset` is accepted as well: the files may have been moved.

    Raises:
      UserError: a flag contradicts the run.
    """
    stored = canonical(request.lab.config_class, stored)
    fields = dict(settings(request.lab.config_class))
    mutable = [name for name, field in fields.items() if field.metadata["kind"] == RUNTIME]
    mutable.append("dataset")
    for name, value in request.overrides.items():
        old = stored.get(name, fields[name].default)
        if name not in mutable and value != old:
            raise UserError(
                f"--{name}: {value} differs from {old} of the run in {request.folder().path};"
                " leave the flag out"
            )
    kept = {name: value for name, value in stored.items() if name not in MACHINE}
    overrides = {name: value for name, value in request.overrides.items() if name in mutable}
    try:
        return request.lab.config_class.from_flat(kept | overrides)
    except UserError as error:
        path = request.folder().path / "config.json"
        raise UserError(f"{error} (with the settings in {path})") from None


def _readable_metadata(checkpoints: Checkpoints, steps: list[int]) -> dict[str, Any]:
    """Returns the metadata of the newest checkpoint with undamaged metadata."""
    for step in reversed(steps):
        with contextlib.suppress(Exception):  # restoring the state will report the damage
            metadata = checkpoints.read_metadata(step)
            if isinstance(metadata["data_spec"], Mapping):
                return metadata
    raise UserError(f"--workdir: no checkpoint in {checkpoints.path} can be read")


def _best_step(folder: RunFolder, steps: list[int]) -> int:
    """Returns the checkpointed step with the lowest loss on the monitored split."""
    rows = [row for row in folder.read_metrics() if row["split"] != "train"]
    losses = {
        row["step"]: row["loss"] for row in reversed(rows) if row["split"] == rows[0]["split"]
    }
    scored = [step for step in steps if losses.get(step) is not None]
    return min(scored, key=losses.__getitem__) if scored else steps[-1]
