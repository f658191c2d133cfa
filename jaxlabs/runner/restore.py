"""A trained run: its settings with the flags of the command line, its model, state and data."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxlabs import paths
from jaxlabs.config import (
    RUNTIME,
    ArgumentError,
    UserError,
    canonical,
    nearest,
    path_settings,
    settings,
)
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Invocation
from jaxlabs.runner.run_context import (
    RunContext,
    check_same_run,
    note_a_changed_lab,
    require_lab,
    start_devices,
    stored_tuned,
)
from jaxlabs.training import devices, precision
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.initial_state import inference_state
from jaxlabs.training.run_config import EVAL_TOKENS, MACHINE, RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

DATA_FILES = ("dataset", "tokenizer")
"""Settings that name files, which may have been moved since a run was trained."""


class Restored(NamedTuple):
    """A trained model: its settings, task, `DataModule.data_spec`, state and resolved settings."""

    config: RunConfig
    task: Task
    data_spec: dict[str, Any]
    state: TrainState
    tuned: dict[str, Any]


def restore(invocation: Invocation) -> Restored:
    """Restores a trained model, with the runtime flags of the command line.

    Raises:
      UserError: no run, no checkpoint, or a flag that contradicts the run.
    """
    folder, stored = invocation.folder(), _read_run(invocation)
    config = with_overrides(invocation, stored["settings"])
    placement = start_devices(config)
    note_a_changed_lab(stored, invocation)
    with Checkpoints(folder.checkpoints, config.keep_checkpoints, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise ArgumentError("workdir", f"{folder.path} holds no checkpoint yet; train first")
        checkpoints.require_run(type(config), stored)
        step = _step(invocation.checkpoint, folder, steps)
        data_spec = _readable_data_spec(checkpoints, [one for one in steps if one <= step])
        resolved, given = stored_tuned(invocation) or {}, invocation.overrides
        tuned = {name: value for name, value in resolved.items() if name not in given}
        tuned |= precision.resolve(config, resolved)
        task = invocation.lab.build_task(precision.with_precision(config, tuned), data_spec)
        state = checkpoints.restore(inference_state(task, config, placement), at_most=step)
    if isinstance(invocation.checkpoint, int) and state.step != step:
        message = f"the one of step {step} in {folder.path} is damaged; latest, or another step"
        raise ArgumentError("checkpoint", message)
    return Restored(config, task, data_spec, state, tuned)


def restore_with_data(invocation: Invocation) -> tuple[RunContext, TrainState]:
    """Restores a trained model, and loads its data from their present path.

    Raises:
      UserError: see `restore`; or the data are missing, or differ from those of the run.
    """
    config, task, _, state, tuned = restore(invocation)
    data = load_data_of_run(invocation, config)
    placement = devices.mesh_sharding(config.mesh)
    return RunContext(config, task, data, invocation.folder(), placement, tuned=tuned), state


def require_same_data(invocation: Invocation) -> None:
    """Raises UserError if `--dataset` or `--tokenizer` contradicts the run, without data."""
    stored, given = invocation.folder().read_config()["settings"], invocation.overrides
    if any(given.get(name, stored.get(name)) != stored.get(name) for name in DATA_FILES):
        load_data_of_run(invocation, with_overrides(invocation, stored))


def _read_run(invocation: Invocation) -> dict[str, Any]:
    """Returns config.json of the run in the run folder.

    Raises:
      UserError: there is none, or it belongs to another lab, preset or sweep.
    """
    folder = invocation.folder()
    stored = folder.read_config()
    require_lab(stored, invocation)
    if "sweep" in stored:
        raise ArgumentError(
            "workdir",
            f"{folder.path} holds the sweep {stored['sweep']}; the folder of one of its"
            f" runs in {folder.runs} is needed",
        )
    default = next(iter(invocation.lab.presets))
    if invocation.preset not in (default, stored.get("preset")):
        raise ArgumentError(
            "preset",
            f"{invocation.preset} differs from {stored.get('preset')} of the run in"
            f" {folder.path}; leave it out",
        )
    return stored


def with_overrides(invocation: Invocation, stored: Mapping[str, Any]) -> RunConfig:
    """Returns the settings of a stored run, with the runtime flags of the command line.

    `--dataset` is accepted as well, since the files may have been moved, and `--eval_tokens` with
    `--mode=evaluate`.

    Raises:
      UserError: a flag contradicts the run.
    """
    lab, path = invocation.lab, invocation.folder().path
    stored = canonical(lab.config_class, stored)
    fields = dict(settings(lab.config_class))
    mutable = {name for name, field in fields.items() if field.metadata["kind"] == RUNTIME}
    mutable |= {"dataset"} | ({EVAL_TOKENS} if invocation.mode == "evaluate" else set())
    files = (path_settings(lab.config_class, run) for run in (stored, invocation.overrides))
    if all("tokenizer" in run for run in files):  # its file may have been moved
        mutable.add("tokenizer")
    for name, value in invocation.overrides.items():
        if name not in fields:
            raise ArgumentError(name, f"unknown setting{nearest(name, fields)}")
        old = stored.get(name, fields[name].default)
        if name not in mutable and value != old:
            message = f"{value} differs from {old} of the run in {path}; leave it out"
            raise ArgumentError(name, message)
    kept = {name: value for name, value in stored.items() if name not in MACHINE}
    given = {name: value for name, value in invocation.overrides.items() if name in mutable}
    try:
        return lab.config_class.from_flat(kept | given)
    except ArgumentError as error:
        if error.argument in given:
            raise
        message = f"{error.message} (with the settings in {path / 'config.json'})"
        raise ArgumentError(error.argument, message) from None


def load_data_of_run(invocation: Invocation, config: RunConfig) -> DataModule:
    """Loads the data of a trained run; raises UserError if they are missing or differ."""
    folder = invocation.folder()
    try:
        data = invocation.lab.load_data(config)
    except UserError:
        path = path_settings(type(config), config.flat()).get("dataset")
        given = "dataset" in invocation.overrides
        if path is None or given or paths.local(path, "dataset").exists():
            raise
        raise ArgumentError(
            "dataset",
            f"{path!r}, the data of the run in {folder.path}, is missing; give its present path",
        ) from None
    stored = folder.read_config()
    same = config
    if EVAL_TOKENS in config.flat():
        same = dataclasses.replace(config, eval_tokens=stored["settings"].get(EVAL_TOKENS))
    check_same_run(stored, invocation, same, data)
    return data


def _readable_data_spec(checkpoints: Checkpoints, steps: list[int]) -> dict[str, Any]:
    """Returns the `data_spec` of the newest checkpoint with undamaged metadata."""
    for step in reversed(steps):
        with contextlib.suppress(Exception):  # restoring the state will report the damage
            data_spec = checkpoints.read_metadata(step)["data_spec"]
            if isinstance(data_spec, Mapping):
                return data_spec
    raise ArgumentError("workdir", f"no checkpoint in {checkpoints.path} can be read")


def _step(checkpoint: str | int, folder: RunFolder, steps: list[int]) -> int:
    """Returns the step of the checkpoint "latest", "best", or of a given step."""
    if checkpoint == "latest":
        return steps[-1]
    if checkpoint == "best":
        return _best_step(folder, steps)
    if checkpoint not in steps:
        accepted = f"latest, best, {', '.join(map(str, steps))}"
        raise ArgumentError("checkpoint", f"{checkpoint!r} is not accepted; {accepted}")
    return checkpoint


def _best_step(folder: RunFolder, steps: list[int]) -> int:
    """Returns the checkpointed step with the lowest loss on the monitored split."""
    rows = [row for row in folder.read_metrics() if row["split"] != "train"]
    losses = {
        row["step"]: row["loss"] for row in reversed(rows) if row["split"] == rows[0]["split"]
    }
    scored = [step for step in steps if losses.get(step) is not None]
    return min(scored, key=losses.__getitem__) if scored else steps[-1]
