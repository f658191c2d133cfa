"""What an experiment hands to the runner, and what a command line asks of it."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxlabs.data.splits import Data
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.sweep_plan import Sweep
from jaxlabs.training.run_config import CommonConfig, RunConfig, SuiteConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What every command has.

    Attributes:
      name: the experiment's name, as in `python -m experiments.<name>`.
      description: what it does; the first part of `--help`.
      config_class: its settings.
      presets: settings by preset, by flag name; the first preset is the default.
    """

    name: str
    description: str
    config_class: type[CommonConfig]
    presets: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab(Experiment):
    """A command that trains a model.

    Attributes:
      load_data: reads the data, `config -> Data`.
      build_task: makes model, loss and step from `(config, vocabulary)`; needs no data.
      sample: draws text or arrays from the model, `(config, task, vocabulary, state, key)`.
      analyze: measures a trained model, `(config, task, data, state, folder) -> metrics by name`,
        and writes arrays into the folder for the report.
      variant: a suffix of the default run folder for settings that make another run of the same
        preset.
      loss_unit: of the loss, for the report.
      sweeps: named sets of runs that answer one question each, for `--sweep`.
    """

    config_class: type[RunConfig]
    load_data: Callable[[Any], Data]
    build_task: Callable[[Any, Mapping[str, Any]], Task]
    sample: Callable[[Any, Task, Mapping[str, Any], TrainState, jax.Array], Sample]
    analyze: Callable[[Any, Task, Data, TrainState, RunFolder], dict[str, float]]
    variant: Callable[[Any], str] = lambda config: ""
    loss_unit: str = "nats"
    sweeps: Mapping[str, Sweep] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """What a study has found.

    Attributes:
      metrics: figures by name.
      text: what is printed and kept as the study's sample.
      extra: further entries of summary.json.
    """

    metrics: dict[str, float]
    text: str
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StudyData:
    """What a study measures on.

    Attributes:
      content: what it is, as the study wants it.
      dataset: what is known of the data set, see `Data.dataset`.
      notice: one line for the user about where the data came from, or None.
    """

    content: Any
    dataset: dict[str, Any]
    notice: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Experiment):
    """A command that measures something without the training loop.

    Attributes:
      measure: `(config, folder) -> StudyResult`; it writes arrays into the folder for the report.
        The data, if there are any, are its third argument.
      load_data: reads the data, `config -> StudyData`, of a study that needs any.
    """

    measure: Callable[..., StudyResult]
    load_data: Callable[[Any], StudyData] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite(Experiment):
    """A command that carries out others, each as a complete run in a folder of its own.

    Its presets are names alone: what they are is up to each of the commands.

    Attributes:
      labs: labs and studies by name, in the order of their turns.
      main: by name of a lab, the figures that sum it up, beside those with published ones.
      inputs: by name of a lab, the flag that takes the run of another one, and that one's name,
        whose turn comes before all that take from others.
    """

    config_class: type[SuiteConfig]
    labs: Mapping[str, Lab | Study]
    main: Mapping[str, Sequence[str]]
    inputs: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A parsed command line.

    Attributes:
      lab: the experiment.
      arguments: the command line as given.
      preset: the preset's name.
      given: settings that were given explicitly.
      overwrite: whether to start anew.
      mode: what to do with the run folder.
      lr_range_test: whether to sweep the learning rate instead of training.
      replay_step: a step to repeat instead of training, or None.
      checkpoint: which checkpoint to read, "latest" or "best".
      sweep: the name of a sweep, or None for a single run.
    """

    lab: Experiment
    arguments: tuple[str, ...]
    preset: str
    given: dict[str, Any]
    overwrite: bool
    mode: str = "train"
    lr_range_test: bool = False
    replay_step: int | None = None
    checkpoint: str = "latest"
    sweep: str | None = None

    def folder(self) -> RunFolder:
        """Returns the run folder that the command line means."""
        if self.given.get("workdir") is not None:
            return RunFolder(self.given["workdir"])
        suffix = self.lab.variant(self.config()) if isinstance(self.lab, Lab) else ""
        suffix += f"-{self.sweep}" if self.sweep is not None else ""
        return RunFolder(pathlib.Path("runs") / f"{self.lab.name}-{self.preset}{suffix}")

    def config(self) -> CommonConfig:
        """Returns the settings of a new run: defaults < preset < flags."""
        return self.lab.config_class.from_flat(dict(self.lab.presets[self.preset]) | self.given)

    def preset_config(self) -> CommonConfig:
        """Returns the settings of the preset alone."""
        return self.lab.config_class.from_flat(self.lab.presets[self.preset])
