"""The interface between an experiment and the runner, and the parsed command line."""

import copy
import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import jax

from jaxlabs.config import ArgumentError, UserError, canonical
from jaxlabs.data.dataset import DataModule
from jaxlabs.published import Published, PublishedCurve
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.runner.lab_source import LabSource
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import CommonConfig, RunConfig, SuiteConfig, has_data_choice
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Callback, Task

if TYPE_CHECKING:
    from jaxlabs.report.figures import Plot  # with matplotlib, which `--help` does not need


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Attributes of every command.

    Attributes:
      name: name of the experiment, as in `jaxlabs <name>`.
      description: first part of `--help`.
      config_class: class of its settings.
      presets: settings by preset, by flag name; the first preset is the default.
      plots: plot functions for the report, by the name of a file under arrays/ without .npz.
      published: published results and learning curves that its runs are compared with.
      main_metrics: names of the metrics that a table of all labs shows; the first ones if empty.
      inputs: names of labs whose run folders this one reads, by the flag that takes the folder.
      source: where `jaxlabs.labs.load` found it; None for a lab that was imported otherwise, and
        for a changed copy, `dataclasses.replace(lab, ...)`, since the place holds another lab.
    """

    name: str
    description: str
    config_class: type[CommonConfig]
    presets: Mapping[str, Mapping[str, Any]]
    plots: Mapping[str, "Plot"] = dataclasses.field(default_factory=dict)
    published: Sequence[Published | PublishedCurve] = ()
    main_metrics: Sequence[str] = ()
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: LabSource | None = dataclasses.field(default=None, init=False)

    def with_source(self, source: LabSource) -> Self:
        """Returns the lab as found in a place."""
        lab = copy.copy(self)
        object.__setattr__(lab, "source", source)
        return lab


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab(Experiment):
    """A command that trains a model.

    Attributes:
      load_data: reads the data, `config -> DataModule`.
      build_task: builds model, loss and step, `(config, data_spec) -> Task`; needs no data.
      sample: samples text or arrays from the model, `(config, task, data_spec, state, key)`; None
        for a model that generates nothing.
      analyze: measures a trained model, `(config, task, data, state, folder) -> metrics by name`,
        and writes arrays into the folder for the report; by default none.
      run_suffix: suffix of the default run folder, for settings that distinguish runs of the same
        preset.
      loss_unit: unit of the loss, for the report.
      sweeps: sets of runs that answer one question each, by name, for `--sweep`.
      callbacks: called in the main process after each evaluation, `(step, state, metrics) ->
        further metrics by name, or None`. `metrics` is by `<split>_<name>`; the further ones are
        logged with those of the first split, under names that are not in use.
    """

    config_class: type[RunConfig]
    load_data: Callable[[Any], DataModule]
    build_task: Callable[[Any, Mapping[str, Any]], Task]
    sample: Callable[[Any, Task, Mapping[str, Any], TrainState, jax.Array], Sample] | None = None
    analyze: Callable[[Any, Task, DataModule, TrainState, RunFolder], dict[str, float]] = (
        lambda config, task, data, state, folder: {}
    )
    run_suffix: Callable[[Any], str] = lambda config: ""
    loss_unit: str = "nats"
    sweeps: Mapping[str, Sweep] = dataclasses.field(default_factory=dict)
    callbacks: Sequence[Callback] = ()


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """Result of a study.

    Attributes:
      metrics: metrics by name.
      text: printed result, also saved as samples/final.txt.
      extra: further entries of summary.json.
    """

    metrics: dict[str, float]
    text: str
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StudyData:
    """Data of a study.

    Attributes:
      content: the data, in the form that the study reads.
      dataset: description of the data set, see `DataModule.dataset`.
      warning: one line for the user about the source of the data, or None.
    """

    content: Any
    dataset: dict[str, Any]
    warning: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Experiment):
    """A command that measures something without the training loop.

    Attributes:
      measure: `(config, folder) -> StudyResult`, or `(config, folder, data) -> StudyResult` for a
        study with data; it writes arrays into the folder for the report.
      load_data: reads the data, `config -> StudyData`; None for a study without data.
    """

    measure: Callable[..., StudyResult]
    load_data: Callable[[Any], StudyData] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite(Experiment):
    """A command that runs several labs and studies, each in its own run folder.

    Its presets are names only; every lab has its own settings for them.

    Attributes:
      labs: labs and studies by name; those with inputs run last.
      load: `path of a file -> lab`, for labs outside of `labs`.
      load_stored: `config.json of a run -> lab`, for complete runs of such labs.
    """

    config_class: type[SuiteConfig]
    labs: Mapping[str, Lab | Study]
    load: Callable[[str], Lab | Study] | None = None
    load_stored: Callable[[Mapping[str, Any]], Lab | Study] | None = None


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A parsed command line.

    Attributes:
      lab: the experiment.
      arguments: the command line, unparsed.
      preset: name of the preset.
      overrides: settings given on the command line, by flag name.
      overwrite: whether to delete the run folder and start over.
      mode: one of `flags.MODES`.
      replay_step: the step that mode replay repeats, else None.
      checkpoint: the checkpoint to read, "latest", "best", or a step.
      sweep: name of a sweep, or None for a single run.
      axes: values by setting of a sweep that the command line defines; empty for the lab's own.
      config_file: the file of `--config`, or None.
      stored: the settings in that file, by flag name.
    """

    lab: Experiment
    arguments: tuple[str, ...]
    preset: str
    overrides: dict[str, Any]
    overwrite: bool
    mode: str = "train"
    replay_step: int | None = None
    checkpoint: str | int = "latest"
    sweep: str | None = None
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    config_file: str | None = None
    stored: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ArgumentError for a data set that the lab would not read."""
        given = {*self.overrides, *self.axes}
        if "dataset" in given and not has_data_choice(self.lab.config_class):
            message = f"not accepted; {self.lab.name} has no choice of data sets, leave it out"
            raise ArgumentError("dataset", message)

    def folder(self) -> RunFolder:
        """Returns the run folder of the command line."""
        if self.overrides.get("workdir") is not None:
            return RunFolder(self.overrides["workdir"])
        suffix = self.lab.run_suffix(self.config()) if isinstance(self.lab, Lab) else ""
        if self.sweep is not None:
            suffix += f"-{self.sweep}"
        if self.mode == "lr_range":
            suffix += "-lr_range"
        return RunFolder(pathlib.Path("runs") / f"{self.lab.name}-{self.preset}{suffix}")

    def config(self, point: Mapping[str, Any] | None = None) -> CommonConfig:
        """Returns the settings of a new run: defaults < preset < `--config` < flags < `point`.

        Without a point, settings that are valid only with those that a sweep varies are those of
        its first run.
        """
        config_class = self.lab.config_class
        preset = canonical(config_class, self.lab.presets[self.preset])
        given = preset | self.stored | self.overrides
        try:
            return config_class.from_flat(given | dict(point or {}))
        except UserError:
            if point is not None or not self.axes:
                raise
            return config_class.from_flat(given | self.plan().points()[0])

    def configs(self) -> list[CommonConfig]:
        """Returns the settings of the run, or of every run of a sweep."""
        sweep = self.plan()
        if sweep is None:
            return [self.config()]
        return [
            self.config(sweep.planned(point) | self.overrides | point) for point in sweep.points()
        ]

    def plan(self) -> Sweep | None:
        """Returns the sweep of the command line; its metrics are empty if the lab names none."""
        if not self.axes:
            return None if self.sweep is None else self.lab.sweeps[self.sweep]
        names = " and ".join(self.axes)
        question = f"How does the result depend on {names}?"
        metrics = self.lab.main_metrics
        if "tokenizer" in self.axes:  # losses per token do not compare
            metrics = [re.sub("_(loss|perplexity)$", "_bits_per_byte", name) for name in metrics]
        return Sweep(question=question, axes=self.axes, metrics=metrics)

    def preset_config(self) -> CommonConfig:
        """Returns the settings of the preset alone."""
        return self.lab.config_class.from_flat(self.lab.presets[self.preset])
