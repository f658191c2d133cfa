"""The run folder of a command: opened to write a run, or read to restore a trained one."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxlabs import paths
from jaxlabs.config import RUNTIME, ArgumentError, UserError, canonical, path_settings, settings
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import lab_source
from jaxlabs.runner.description import describe
from jaxlabs.runner.lab import Invocation, StudyData
from jaxlabs.training import compile_cache, device_settings, devices, eval_budget, precision
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.initial_state import inference_state
from jaxlabs.training.jax_settings import require_same_compiler_flags
from jaxlabs.training.lr_finder import require_rate
from jaxlabs.training.metric_writer import require_tracker
from jaxlabs.training.pretrained import Weights, load_weights
from jaxlabs.training.run_config import (
    EVAL_TOKENS,
    MACHINE,
    OTHER_CONTENTS,
    CommonConfig,
    RunConfig,
    differing,
)
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task, require_own_settings, require_trainable
from jaxlabs.training.trainer import require_divides

DATA_FILES = ("dataset", "tokenizer")
"""Settings that name files, which may have been moved since a run was trained."""


@dataclasses.dataclass(frozen=True)
class RunContext:
    """One run of a lab: its settings, model, data, run folder and devices.

    `tuned` are the settings that the run has resolved for its device, by name.
    `read_weights` reads the weights of `--init_from`, see `_weights_reader`; None if not given.
    `tokens_per_evaluation` limits evaluations during training, see `training.eval_budget`.
    """

    config: RunConfig
    task: Task
    data: DataModule
    folder: RunFolder
    placement: MeshSharding
    read_weights: Callable[[], Weights] | None = None
    tokens_per_evaluation: int | None = None
    tuned: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def tuned_config(self) -> RunConfig:
        """The settings with the resolved ones, for training and evaluation."""
        return precision.with_precision(self.config, self.tuned)


class Restored(NamedTuple):
    """A trained model: its settings, task, `DataModule.data_spec`, state and resolved settings."""

    config: RunConfig
    task: Task
    data_spec: dict[str, Any]
    state: TrainState
    tuned: dict[str, Any]


@contextlib.contextmanager
def open_training(invocation: Invocation) -> Iterator[RunContext]:
    """Loads the data, builds the task and opens the run folder for writing.

    Raises:
      UserError: invalid settings or data, or see `open_run`.
    """
    config = invocation.config()
    placement = _start_devices(config)
    require_tracker(config.track)
    _check_settings(invocation, config)
    data = invocation.lab.load_data(config)
    tuned = precision.resolve(config, _stored_tuned(invocation))
    task = invocation.lab.build_task(precision.with_precision(config, tuned), data.data_spec)
    given = {*invocation.overrides, *invocation.stored}
    tuned |= device_settings.resolve(config, task, given, _stored_tuned(invocation))
    require_divides(precision.with_precision(config, tuned), placement)
    require_trainable(task, config, data.train)
    require_own_settings(task, invocation.overrides)
    if invocation.mode == "lr_range":
        require_rate(task, config)
    read = None if config.init_from is None else _weights_reader(invocation, config.init_from)
    tokens = eval_budget.tokens_per_evaluation(config, data)
    tuned |= {} if tokens is None else {eval_budget.SETTING: tokens}
    with open_run(invocation, config, data, task, tuned=tuned, read_weights=read) as folder:
        if data.warning and devices.is_main_process():
            print(data.warning, file=sys.stderr)
        tokens = _tokens_per_evaluation(folder, tokens)
        yield RunContext(config, task, data, folder, placement, read, tokens, tuned)


def _weights_reader(invocation: Invocation, path: str) -> Callable[[], Weights]:
    """Returns a function that reads the weights of `--init_from` once.

    It raises ArgumentError if they are not those that the run has been started with.
    """
    stored = (_stored_run(invocation) or {}).get("init_from", {})

    @functools.cache
    def read() -> Weights:
        weights = load_weights(path)
        if stored.get("sha256", weights.sha256) != weights.sha256:
            raise ArgumentError("init_from", f"{path} has changed since the run was started")
        return weights

    return read


def _check_settings(invocation: Invocation, config: RunConfig) -> None:
    """Raises UserError if the settings of a stored run differ, before any data are read.

    Those that name files are left to `check_same_run`, which compares the contents.
    """
    if (stored := _stored_run(invocation)) is not None:
        kind, new = type(config), config.flat()
        old = canonical(kind, stored["settings"])
        files = {"dataset", *path_settings(kind, old), *path_settings(kind, new)}
        same = {name: new[name] for name in files & new.keys()}
        check_same_run(stored | {"settings": old | same, "dataset": None}, invocation, config, None)


def _tokens_per_evaluation(folder: RunFolder, tokens: int | None) -> int | None:
    """Returns the number that the run was started with, in all processes; it has been written."""
    if devices.is_main_process():
        tokens = folder.read_config().get("tuned", {}).get(eval_budget.SETTING, tokens)
    return devices.sync_hosts(tokens or 0, False)[0] or None


@contextlib.contextmanager
def open_run(
    invocation: Invocation,
    config: CommonConfig,
    data: DataModule | StudyData | None = None,
    task: Task | None = None,
    *,
    tuned: Mapping[str, str] | None = None,
    read_weights: Callable[[], Weights] | None = None,
) -> Iterator[RunFolder]:
    """Opens and locks the run folder for writing; only process 0 of several writes.

    A run without results (refused or killed early) is replaced.

    Args:
      invocation: the command line.
      config: its settings.
      data: the data of the run, if any.
      task: the task of a lab; None for other commands.
      tuned: settings that a new run has tuned for this machine; a resumed run keeps its own.
      read_weights: see `RunContext`.

    Raises:
      UserError: the folder cannot be written, is locked by another process, holds another run, or
        holds files that belong to no run.
    """
    folder, main = invocation.folder(), devices.is_main_process()
    if not invocation.overwrite:
        folder.require_own()
    elif main and folder.contents() and not folder.exists():  # such files are never deleted
        raise ArgumentError(
            "overwrite", f"{folder.path} is not a run folder and not empty; an empty or new folder"
        )
    if main:
        folder.create()
    with folder.writer() if main else contextlib.nullcontext():
        if invocation.overwrite and main:
            folder.clear()  # under the lock: a run that is being written is not deleted
        if (stored := _stored_run(invocation)) is not None:
            check_same_run(stored, invocation, config, data, task)
            _note_a_changed_lab(stored, invocation)
            if "compiler_flags" in stored:
                require_same_compiler_flags(stored["compiler_flags"])
        elif main:
            content = describe(invocation, config, data, task, read_weights)
            folder.write_config(content | {"tuned": dict(tuned or {})})
        yield folder


def check_same_run(
    stored: dict[str, Any],
    invocation: Invocation,
    config: CommonConfig,
    data: DataModule | StudyData | None,
    task: Task | None = None,
) -> None:
    """Raises UserError unless a stored run has the same lab, settings, data and optimizer."""
    _require_lab(stored, invocation)
    present = {"settings": config.flat(), "dataset": data.dataset if data else None}
    words = differing(type(config), stored, present)
    if words and words[-1] == OTHER_CONTENTS and data.warning:
        words[-1] += f" ({data.warning})"
    if stored.get("sweep") != invocation.sweep:
        words.append(f"sweep (stored {stored.get('sweep')}, given {invocation.sweep})")
    for name, values in stored.get("axes", {}).items():
        now = invocation.axes.get(name, ())  # more values than before are accepted
        if not isinstance(values, list) or any(value not in now for value in values):
            words.append(f"vary {name} (stored {values}, given {list(now)})")
    if task is not None and (old := stored.get("optimizer", "")) != task.optimizer_name:
        words.append(f"Task.optimizer_name (stored {old!r}, given {task.optimizer_name!r})")
    if words:
        raise ArgumentError(
            "workdir",
            f"the run in {invocation.folder().path} has different settings:"
            f" {', '.join(words)}; use the same ones, another `workdir`, or `overwrite`",
        )


def restore(invocation: Invocation) -> Restored:
    """Restores a trained model, with the runtime flags of the command line.

    Raises:
      UserError: no run, no checkpoint, or a flag that contradicts the run.
    """
    folder, stored = invocation.folder(), _read_run(invocation)
    config = with_overrides(invocation, stored["settings"])
    placement = _start_devices(config)
    _note_a_changed_lab(stored, invocation)
    with Checkpoints(folder.checkpoints, config.keep_checkpoints, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise ArgumentError("workdir", f"{folder.path} holds no checkpoint yet; train first")
        checkpoints.require_run(type(config), stored)
        step = _step(invocation.checkpoint, folder, steps)
        data_spec = _readable_data_spec(checkpoints, [one for one in steps if one <= step])
        stored_tuned, given = _stored_tuned(invocation) or {}, invocation.overrides
        tuned = {name: value for name, value in stored_tuned.items() if name not in given}
        tuned |= precision.resolve(config, stored_tuned)
        task = invocation.lab.build_task(precision.with_precision(config, tuned), data_spec)
        state = checkpoints.restore(inference_state(task, config, placement), at_most=step)
    if isinstance(invocation.checkpoint, int) and state.step != step:
        message = f"the one of step {step} in {folder.path} is damaged; latest, or another step"
        raise ArgumentError("checkpoint", message)
    return Restored(config, task, data_spec, state, tuned)


def _note_a_changed_lab(stored: Mapping[str, Any], invocation: Invocation) -> None:
    line = lab_source.changed(stored, invocation.lab.source)
    if line is not None and devices.is_main_process():
        print(f"{invocation.lab.name}: {line}", file=sys.stderr)


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


def _start_devices(config: RunConfig) -> MeshSharding:
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    compile_cache.enable(config.data_dir)
    return devices.mesh_sharding(config.mesh)


def _require_lab(stored: dict[str, Any], invocation: Invocation) -> None:
    """Raises UserError unless a stored run belongs to the lab of the command line."""
    if stored["experiment"] != invocation.lab.name:
        writes = invocation.mode in ("train", "lr_range")
        accepted = "another folder, or `overwrite`" if writes else "another folder"
        path = invocation.folder().path
        raise ArgumentError("workdir", f"{path} holds a run of {stored['experiment']}; {accepted}")


def _stored_run(invocation: Invocation) -> dict[str, Any] | None:
    """Returns config.json of the run that the command continues; None for a new run.

    A run without results is replaced, see `open_run`.
    """
    folder = invocation.folder()
    continues = not invocation.overwrite and folder.exists() and folder.has_results()
    return folder.read_config() if continues else None


def _stored_tuned(invocation: Invocation) -> dict[str, Any] | None:
    """Returns the settings that the stored run has resolved; None for a new run."""
    if (stored := _stored_run(invocation)) is None:
        return None
    return canonical(invocation.lab.config_class, stored.get("tuned", stored["settings"]))


def _read_run(invocation: Invocation) -> dict[str, Any]:
    """Returns config.json of the run in the run folder.

    Raises:
      UserError: there is none, or it belongs to another lab, preset or sweep.
    """
    folder = invocation.folder()
    stored = folder.read_config()
    _require_lab(stored, invocation)
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
