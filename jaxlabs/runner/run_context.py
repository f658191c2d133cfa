"""A run that a command writes: its context, its folder, and the check against a stored run."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlabs.config import ArgumentError, canonical, path_settings
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import lab_source
from jaxlabs.runner.description import describe
from jaxlabs.runner.lab import Invocation, StudyData
from jaxlabs.training import compile_cache, device_settings, devices, eval_budget, precision
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.jax_settings import require_same_compiler_flags
from jaxlabs.training.lr_finder import require_rate
from jaxlabs.training.metric_writer import require_tracker
from jaxlabs.training.pretrained import Weights, load_weights
from jaxlabs.training.run_config import (
    OTHER_CONTENTS,
    CommonConfig,
    RunConfig,
    differing,
)
from jaxlabs.training.task import Task, require_own_settings, require_trainable
from jaxlabs.training.trainer import require_divides


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


@contextlib.contextmanager
def open_training(invocation: Invocation) -> Iterator[RunContext]:
    """Loads the data, builds the task and opens the run folder for writing.

    Raises:
      UserError: invalid settings or data, or see `open_run`.
    """
    config = invocation.config()
    placement = start_devices(config)
    require_tracker(config.track)
    _check_settings(invocation, config)
    data = invocation.lab.load_data(config)
    tuned = precision.resolve(config, stored_tuned(invocation))
    task = invocation.lab.build_task(precision.with_precision(config, tuned), data.data_spec)
    given = {*invocation.overrides, *invocation.stored}
    tuned |= device_settings.resolve(config, task, given, stored_tuned(invocation))
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
            note_a_changed_lab(stored, invocation)
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
    require_lab(stored, invocation)
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


def note_a_changed_lab(stored: Mapping[str, Any], invocation: Invocation) -> None:
    """Prints one line if the file of the lab has changed since the run started."""
    line = lab_source.changed(stored, invocation.lab.source)
    if line is not None and devices.is_main_process():
        print(f"{invocation.lab.name}: {line}", file=sys.stderr)


def start_devices(config: RunConfig) -> MeshSharding:
    """Starts the devices, joins the other processes, and returns the mesh of a run."""
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    compile_cache.enable(config.data_dir)
    return devices.mesh_sharding(config.mesh)


def require_lab(stored: dict[str, Any], invocation: Invocation) -> None:
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


def stored_tuned(invocation: Invocation) -> dict[str, Any] | None:
    """Returns the settings that the stored run has resolved; None for a new run."""
    if (stored := _stored_run(invocation)) is None:
        return None
    return canonical(invocation.lab.config_class, stored.get("tuned", stored["settings"]))
