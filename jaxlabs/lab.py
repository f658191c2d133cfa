"""What an experiment hands to the runner, and what a command line asks of it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxlabs.data.splits import Data
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True)
class Lab:
    """What an experiment hands to `run`.

    Attributes:
      name: the experiment's name, as in `python -m experiments.<name>`.
      description: what the lab does; the first part of `--help`.
      config_class: its settings.
      presets: settings by preset, by flag name; the first preset is the default.
      load_data: reads the data, `config -> Data`.
      build_task: makes model, loss and step from `(config, vocabulary)`; needs no data.
      sample: draws text or arrays from the model, `(config, task, vocabulary, state, key)`.
      analyse: measures a trained model, `(config, task, data, state, folder) -> metrics by name`,
        and writes arrays into the folder for the report.
      variant: a suffix of the default run folder for settings that make another run of the same
        preset.
    """

    name: str
    description: str
    config_class: type[RunConfig]
    presets: Mapping[str, Mapping[str, Any]]
    load_data: Callable[[Any], Data]
    build_task: Callable[[Any, Mapping[str, Any]], Task]
    sample: Callable[[Any, Task, Mapping[str, Any], TrainState, jax.Array], Sample]
    analyse: Callable[[Any, Task, Data, TrainState, RunFolder], dict[str, float]]
    variant: Callable[[Any], str] = lambda config: ""


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed command line."""

    lab: Lab
    arguments: tuple[str, ...]
    preset: str
    mode: str
    given: dict[str, Any]
    overwrite: bool
    lr_range_test: bool
    replay_step: int | None
    checkpoint: str

    def folder(self) -> RunFolder:
        """Returns the run folder that the command line means."""
        if self.given.get("workdir") is not None:
            return RunFolder(self.given["workdir"])
        variant = self.lab.variant(self.config())
        return RunFolder(pathlib.Path("runs") / f"{self.lab.name}-{self.preset}{variant}")

    def config(self) -> RunConfig:
        """Returns the settings of a new run: defaults < preset < flags."""
        values = dict(self.lab.presets[self.preset]) | self.given
        return self.lab.config_class.from_flat(values)
