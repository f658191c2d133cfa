"""The content of config.json, written at the start of a command."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import jaxlabs
from jaxlabs import paths
from jaxlabs.config import path_settings
from jaxlabs.data.dataset import DataModule
from jaxlabs.runner import program
from jaxlabs.runner.lab import Invocation, Lab, StudyData
from jaxlabs.training import devices, jax_settings
from jaxlabs.training.pretrained import Weights
from jaxlabs.training.run_config import CommonConfig, RunConfig
from jaxlabs.training.task import Task, is_batch_coupled

ROUNDING_SETTINGS = ("grad_accum_steps", "eval_batch_size")
"""Settings that change metrics by rounding only, unless the loss is batch-coupled."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(
    invocation: Invocation,
    config: CommonConfig,
    data: DataModule | StudyData | None,
    task: Task | None,
    read_weights: Callable[[], Weights] | None = None,
) -> dict[str, Any]:
    """Returns config.json: all settings, versions, device, data set.

    Args:
      invocation: the command line.
      config: its settings.
      data: the data of the run, if any.
      task: the task of a lab; None for other commands.
      read_weights: reads the weights of `--init_from`, if the run starts from some.
    """
    lab = invocation.lab
    metadata = {
        "experiment": lab.name,
        "preset": invocation.preset,
        "command": f"{program.command(lab)} {shlex.join(invocation.arguments)}".rstrip(),
        "settings": config.flat() | _absolute_paths(config),
        "preset_settings": invocation.preset_config().flat(),
        "versions": {"python": platform.python_version(), "jaxlabs": version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": devices.describe(),
        "compiler_flags": jax_settings.compiler_flags(),
    }
    if lab.source is not None:
        metadata["lab"] = dataclasses.asdict(lab.source)
    if isinstance(lab, Lab):
        metadata["loss_unit"] = getattr(data, "loss_unit", None) or lab.loss_unit
    if invocation.sweep is not None:
        metadata |= {"sweep": invocation.sweep, "question": invocation.plan().question}
    if invocation.axes:
        metadata["axes"] = dict(invocation.axes)
    if data is not None:
        metadata["dataset"] = data.dataset
    if task is not None:
        reason = not_comparable_reason(invocation, config, task, data) if lab.published else ""
        metadata["not_comparable_reason"] = reason
        if task.optimizer is not None:
            metadata["optimizer"] = task.optimizer_name
    if read_weights is not None:
        metadata["init_from"] = {"sha256": read_weights().sha256}
    return metadata


def _absolute_paths(config: CommonConfig) -> dict[str, str]:
    """Returns the settings that are paths, as absolute paths."""
    found = path_settings(type(config), config.flat())
    return {name: os.path.abspath(paths.local(path, name)) for name, path in found.items()}


def version() -> str:
    """Returns the version of jaxlabs, with the commit if it runs from a git checkout."""
    checkout = pathlib.Path(jaxlabs.__file__).parents[1]
    if not (checkout / ".git").exists():
        return jaxlabs.__version__
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return jaxlabs.__version__
    return f"{jaxlabs.__version__} (commit {commit})"


def not_comparable_reason(
    invocation: Invocation, config: RunConfig, task: Task, data: DataModule
) -> str:
    """Returns why a run is not comparable with published results; empty if it is."""
    if not data.comparable:
        return f"trained on {data.dataset['name']}, not on the published data"
    harmless = ["seed"] if is_batch_coupled(task) else ["seed", *ROUNDING_SETTINGS]
    preset = invocation.preset_config().identity()
    changed = [
        name
        for name, value in config.identity().items()
        if value != preset[name] and name not in harmless
    ]
    return f"other settings than the preset's: {', '.join(changed)}" if changed else ""
