"""Training and loading runs from Python: the same runs as those of the command line.

    import jaxlabs as jl

    run = jl.train("gpt", preset="quick", steps=200, workdir="runs/short")
    run = jl.load_run("runs/short", checkpoint="best")
    run.config, run.metrics, run.params, run.evaluate(), run.sample("ROMEO:", temperature=0.8)

Every setting is a keyword with the name of its flag. A call with the same settings resumes or loads
the same run folder. JAX settings and signal handlers are as before when a call returns.
"""

import functools
import os
import pathlib
import signal
from typing import Any

import flax.linen as nn
import numpy as np

from jaxlabs import keys, labs
from jaxlabs.config import ArgumentError, UserError, canonical, nearest
from jaxlabs.data.dataset import DataModule
from jaxlabs.report.notebook import run_card
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.run_folder.files import Texts
from jaxlabs.runner import call, modes
from jaxlabs.runner.help_text import sections
from jaxlabs.runner.lab import Lab, Study
from jaxlabs.runner.restore import Restored, load_data_of_run, restore, with_overrides
from jaxlabs.runner.run_context import RunContext
from jaxlabs.training import devices, precision, signals
from jaxlabs.training.run_config import CommonConfig
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import TrainState, Tree


def train(
    lab: str | os.PathLike[str] | Lab | Study,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> "Run":
    """Trains a lab to the last step, or runs a study, as the command of the same name.

    A run folder with the same settings is resumed, or loaded if it is complete. Ctrl-C stops after
    a checkpoint with KeyboardInterrupt; the same call resumes.

    Args:
      lab: name of a lab, path of a file with one, or the lab.
      preset: name of the initial settings; None: that of `config`, or the first one. Another one
        than that of `config` is refused.
      config: path of a run's config.json, whose settings to repeat.
      overwrite: whether to delete the run folder and start over.
      **settings: settings on top of these, by the name of their flag.

    Returns:
      The run; its folder is `workdir`, by default runs/<lab>-<preset>.

    Raises:
      ValueError: an unknown lab, preset or setting, an invalid value, or a run folder of another
        run; the message is one line that begins with the argument.
      KeyboardInterrupt: Ctrl-C; the run is saved.
    """
    with call.session():
        lab = labs.resolve(lab)
        invocation = call.training(lab, settings, preset=preset, config=config, overwrite=overwrite)
        try:
            with signals.listening():
                run = modes.measure if isinstance(lab, Study) else modes.train
                run(invocation, quiet=True)
        except Interrupted as interruption:
            if interruption.number != signal.SIGINT:
                signal.raise_signal(interruption.number)  # for the handler of the caller
            raise
    return Run(invocation.folder().path, lab=lab)


def load_run(
    path: str | os.PathLike[str],
    checkpoint: str | int = "latest",
    *,
    lab: str | os.PathLike[str] | Lab | Study | None = None,
    **settings: Any,
) -> "Run":
    """Loads a run folder; its model is restored when it is first used.

    Args:
      path: the run folder.
      checkpoint: "latest", "best" (lowest loss on the monitored split), or a step.
      lab: the lab of the run, its name, or the path of its file; None: the one that config.json
        names, whose file is executed only if you have run it before, as it is now.
      **settings: settings of this machine, such as `platform` and `data_dir`, and `dataset` if its
        files were moved.

    Raises:
      ValueError: the folder holds no run, its lab is not found, or a setting contradicts the run.
    """
    return Run(path, checkpoint, lab=lab, **settings)


class Run:
    """A run of a lab or of a study, read from its folder.

    A study trains no model, so its run has no `params`, `model`, `sample` or `evaluate`.

    Attributes:
      path: the run folder.
      lab: its lab or study.
      config: its settings, such as `run.config.seed` and `run.config.optimization.learning_rate`.
    """

    path: pathlib.Path
    lab: Lab | Study
    config: CommonConfig

    def __init__(
        self,
        path: str | os.PathLike[str],
        checkpoint: str | int = "latest",
        *,
        lab: str | os.PathLike[str] | Lab | Study | None = None,
        **settings: Any,
    ):
        with call.session():
            self._folder = RunFolder(path)
            stored = self._folder.read_config()
            if isinstance(checkpoint, np.integer):
                checkpoint = int(checkpoint)
            if not isinstance(checkpoint, int) and checkpoint not in ("latest", "best"):
                message = f"{checkpoint!r} is not accepted; latest, best, or a step"
                raise ArgumentError("checkpoint", message)
            self.path = self._folder.path
            if "sweep" in stored:
                raise UserError(
                    f"{self.path}: the sweep {stored['sweep']}; the folder of one of its runs in"
                    f" {self._folder.runs} is needed"
                )
            self.lab = labs.load_stored(stored, lab)
            settings = {"workdir": str(self.path)} | settings
            self._invocation = call.invocation(
                self.lab, stored["preset"], settings, mode="sample", checkpoint=checkpoint
            )
            self.config = with_overrides(self._invocation, stored["settings"])

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, each with `step`, `split` and metrics: `pandas.DataFrame(rows)`.

        The run of a study has one row, its results.
        """
        if isinstance(self.lab, Study):
            return [dict(self.summary.get("metrics", {}))]
        return self._folder.read_metrics()

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: final metrics, times, comparison with published results; empty before."""
        return self._folder.read_summary() if self._folder.is_complete() else {}

    @property
    def state(self) -> TrainState:
        """The restored state, without that of the optimizer."""
        return self._restored.state

    @property
    def step(self) -> int:
        """Number of training steps of the restored checkpoint."""
        return int(self.state.step)

    @property
    def params(self) -> Tree:
        """The parameters for evaluation and sampling: the EMA, if the run has one."""
        return self.state.eval_params

    @property
    def model(self) -> nn.Module:
        """The linen module: `run.model.apply(run.variables, ...)`."""
        return self._restored.task.model

    @property
    def variables(self) -> dict[str, Tree]:
        """The variables of `model`: `params`, and `batch_stats` if it has them."""
        return self.state.variables(self.params)

    @functools.cached_property
    def data(self) -> DataModule:
        """The data of the run, loaded from their present path."""
        self._require_lab("data")
        with call.session():
            return load_data_of_run(self._invocation, self.config)

    def sample(
        self, prompt: str | None = None, /, **settings: Any
    ) -> list[str] | dict[str, list[str]] | dict[str, np.ndarray] | str:
        """Samples from the model: the same samples as `--mode=sample` with the same settings.

        Args:
          prompt: prompt of the samples, for labs with this setting.
          **settings: settings of sampling, by the name of their flag, such as `temperature`,
            `num_samples` and `sample_seed`.

        Returns:
          A list of texts, or one by heading if there are several, such as temperatures; else what
          the lab samples: a text, or arrays by name.

        Raises:
          ValueError: an unknown setting or an invalid value.
        """
        self._require_lab("sample")
        if self.lab.sample is None:
            raise UserError(f"jl.Run.sample: {self.lab.name} has no sampler")
        with call.session():
            given = settings if prompt is None else {"prompt": prompt} | settings
            known = [name for name, _ in sections(self.lab.config_class)["sampling"]]
            for name in canonical(self.lab.config_class, given):
                if name not in known:
                    hint = nearest(name, known) or f"; {', '.join(known)} are accepted"
                    raise ArgumentError(name, f"not a setting of sampling{hint}")
            stored = self._folder.read_config()["settings"]
            overrides = self._invocation.overrides | given
            config = with_overrides(
                call.invocation(self.lab, self._invocation.preset, overrides), stored
            )
            restored = self._restored
            tuned = precision.with_precision(config, restored.tuned)
            task = self.lab.build_task(tuned, restored.data_spec)
            key = keys.stream(config.sample_seed, "draw")
            sample = self.lab.sample(config, task, restored.data_spec, restored.state, key)
            return _plain(sample)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns the metrics by evaluation set, with those of the end of the training."""
        self._require_lab("evaluate")
        restored = self._restored
        context = RunContext(
            restored.config,
            restored.task,
            self.data,
            self._folder,
            devices.mesh_sharding(restored.config.mesh),
            tuned=restored.tuned,
        )
        with call.session():
            return modes.evaluate(context, restored.state)

    def report(self) -> pathlib.Path:
        """Writes report.html and its figures, and returns its path."""
        with call.session():
            return write_report(self._folder, self.lab)

    @functools.cached_property
    def _restored(self) -> Restored:
        self._require_lab("model")
        with call.session():
            return restore(self._invocation)

    def _require_lab(self, what: str) -> None:
        if isinstance(self.lab, Study):
            raise UserError(
                f"{what}: the run in {self.path} has none, since {self.lab.name} is a study, which"
                " trains no model; config, metrics, summary and report are there"
            )

    def __repr__(self) -> str:
        summary, parts = self.summary, [self.lab.name, f"preset {self._invocation.preset}"]
        if not summary:
            parts.append("incomplete")
        elif "steps" in summary:
            parts.append(f"{summary['steps']:,} steps")
        metrics = summary.get("metrics", {})
        shown = [name for name in (*self.lab.main_metrics, *metrics) if name in metrics][:1]
        parts += [f"{name} {metrics[name]:.4g}" for name in shown if metrics[name] is not None]
        return f"<Run {self.path}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        return run_card(self._folder, self.lab)


def _plain(sample: Sample) -> Any:
    """Returns a sample in types of Python and numpy."""
    if not isinstance(sample, Texts):
        return sample
    groups = {heading: list(texts) for heading, texts in sample.groups.items()}
    return next(iter(groups.values())) if len(groups) == 1 else groups
