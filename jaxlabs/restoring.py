"""Reading a run that was trained before: its settings, its data, its state."""

import contextlib
from collections.abc import Mapping
from typing import Any

from jaxlabs import paths
from jaxlabs.config import RUNTIME, UserError, canonical, path_settings, settings
from jaxlabs.data.splits import Data
from jaxlabs.lab import Invocation
from jaxlabs.opening import check_same_run, require_lab
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import devices, precision
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_config import MACHINE, RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


def restore(request: Invocation) -> tuple[Any, Task, dict[str, Any], TrainState]:
    """Reads a trained run, see `_with_given` for its settings.

    Raises:
      UserError: no run, no checkpoint, or a flag that would make it another run.
    """
    folder, stored, chosen = request.folder(), _read_run(request), stored_precision(request)
    config = _with_given(request, stored["settings"])
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    with Checkpoints(folder.checkpoints, config.keep_checkpoints, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"--workdir: {folder.path} holds no checkpoint yet; train first")
        checkpoints.require_run(type(config), stored)
        step = _best_step(folder, steps) if request.checkpoint == "best" else steps[-1]
        facts = _readable_facts(checkpoints, [one for one in steps if one <= step])
        settled = precision.with_precision(config, precision.settle(config, chosen))
        task = request.lab.build_task(settled, facts["vocabulary"])
        like = initial_state(task, config, devices.data_parallel())
        state = checkpoints.restore(like, at_most=step)
    return config, task, facts, state


def load_data(request: Invocation, config: RunConfig) -> Data:
    """Loads the data of a trained run, wherever they are now.

    Raises:
      UserError: they are not there, or not what the run was trained on.
    """
    stored = request.folder().read_config()
    try:
        data = request.lab.load_data(config)
    except UserError:
        path = path_settings(type(config), config.flat()).get("dataset")
        if path is None or "dataset" in request.given or paths.local(path, "--dataset").exists():
            raise
        raise UserError(
            f"--dataset: {path!r}, on which the run in {request.folder().path} was trained, is not"
            " there; give the path that it has now"
        ) from None
    check_same_run(stored, request, config, data)
    return data


def require_data_given(request: Invocation) -> None:
    """Raises UserError if a mode that needs no data is given others than those of the run."""
    stored = request.folder().read_config()["settings"]
    if request.given.get("dataset", stored["dataset"]) != stored["dataset"]:
        load_data(request, _with_given(request, stored))


def stored_precision(request: Invocation) -> str | None:
    """Returns what the dots of the request's run are made with; None when it starts anew."""
    folder = request.folder()
    if request.overwrite or not folder.exists():
        return None
    stored = folder.read_config()
    tuned = stored.get("tuned", stored["settings"])
    return canonical(request.lab.config_class, tuned).get(precision.SETTING)


def _read_run(request: Invocation) -> dict[str, Any]:
    """Returns config.json of the lab's run that a request is about.

    Raises:
      UserError: there is none, or one of another lab or preset.
    """
    folder = request.folder()
    stored = folder.read_config()
    require_lab(stored, request)
    if "sweep" in stored:
        raise UserError(
            f"--workdir: the sweep {stored['sweep']} is there; the folder of one of its runs, in"
            f" {folder.runs}, is needed"
        )
    default = next(iter(request.lab.presets))
    if request.preset not in (default, stored.get("preset")):
        raise UserError(
            f"--preset: {request.preset} differs from {stored.get('preset')} of the run in"
            f" {folder.path}; leave the flag out"
        )
    return stored


def _with_given(request: Invocation, stored: Mapping[str, Any]) -> RunConfig:
    """Returns a run's settings, with flags on top that do not make it another run.

    Those are the runtime flags, and the data set, which may have been moved.

    Raises:
      UserError: a flag would make it another run.
    """
    stored = canonical(request.lab.config_class, stored)
    fields = dict(settings(request.lab.config_class))
    free = [name for name, field in fields.items() if field.metadata["kind"] == RUNTIME]
    free.append("dataset")
    for name, value in request.given.items():
        old = stored.get(name, fields[name].default)
        if name not in free and value != old:
            raise UserError(
                f"--{name}: {value} differs from {old} of the run in {request.folder().path};"
                " leave the flag out"
            )
    kept = {name: value for name, value in stored.items() if name not in MACHINE}
    given = {name: value for name, value in request.given.items() if name in free}
    try:
        return request.lab.config_class.from_flat(kept | given)
    except UserError as error:
        place = request.folder().path / "config.json"
        raise UserError(f"{error} (with the settings in {place})") from None


def _readable_facts(checkpoints: Checkpoints, steps: list[int]) -> dict[str, Any]:
    """Returns the JSON of the newest of some checkpoints that has it undamaged."""
    for step in reversed(steps):
        with contextlib.suppress(Exception):  # restoring the state will report the damage
            facts = checkpoints.read_metadata(step)
            if isinstance(facts["vocabulary"], Mapping):
                return facts
    raise UserError(f"--workdir: no checkpoint in {checkpoints.path} can be read")


def _best_step(folder: RunFolder, steps: list[int]) -> int:
    """Returns the checkpointed step with the lowest loss on the headline split."""
    rows = [row for row in folder.read_metrics() if row["split"] != "train"]
    losses = {
        row["step"]: row["loss"] for row in reversed(rows) if row["split"] == rows[0]["split"]
    }
    scored = [step for step in steps if losses.get(step) is not None]
    return min(scored, key=losses.__getitem__) if scored else steps[-1]
