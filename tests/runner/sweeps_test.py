"""Tests of sweeps and studies: complete runs, resume, comparison."""

import dataclasses
import itertools
import json
import pathlib
import re
import shlex

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.config import Config, UserError, group, setting
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.lab import Lab, Study, StudyData, StudyResult, Suite
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import CommonConfig, RunConfig, SuiteConfig
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task
from jaxlabs.training.trainer import NonFiniteError

pytestmark = pytest.mark.usefixtures("reused_executables")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineConfig(Config):
    bias: bool = setting(True, "whether the line has an intercept")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(RunConfig):
    line: LineConfig = group(LineConfig)


def load_data(config):
    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    points = Examples({"x": x, "y": 2 * x[:, 0] + 1})
    return DataModule(
        train=points,
        eval_sets={"held_out": points, "again": points},
        final_eval_sets=dict,
        dataset={"name": "line", "source": "made up", "sha256": "0"},
        comparable=False,
        data_spec={},
        baselines=dict,
    )


def loss(model, variables, batch, key, **_):
    y = model.apply(variables, batch["x"])[:, 0]
    squares = jnp.square(y - batch["y"]) * batch["weights"]
    return LossOutput(squares.sum(), batch["weights"].sum(), {})


train_step = build_train_step(loss)


def build_task(config, data_spec):
    model = nn.Dense(1, use_bias=config.line.bias)
    return Task(model, lambda key: model.init(key, jnp.zeros((1, 1))), loss, train_step)


LINE = Lab(
    name="line",
    description="Fits a line.",
    config_class=FitConfig,
    presets={"quick": {"steps": 4, "batch_size": 4, "eval_batch_size": 8, "eval_every": 2}},
    load_data=load_data,
    build_task=build_task,
    sample=lambda config, task, data_spec, state, key: "a line",
    analyze=lambda config, task, data, state, folder: {},
    loss_unit="squares",
    sweeps={
        "biases": Sweep(
            question="Does a bias help?",
            axes={"bias": (False, True), "seed": (0, 1)},
            metrics=("held_out_loss", "train_loss"),
            settings={"learning_rate": 0.5, "log_every": 1},
        ),
        "seeds": Sweep(
            question="How much is luck?", axes={"seed": (3, 4)}, metrics=("held_out_loss",)
        ),
    },
)


def summary_time(run):
    return (
        (RunFolder(f"runs/line-quick-biases/runs/{run}").path / "summary.json").stat().st_mtime_ns
    )


def test_sweep_trains_every_run_once_and_compares_them(here, monkeypatch, capsys):
    flags = ["--sweep=biases", "--log_every=2"]
    trained, real = [], modes.train

    def train(invocation, *, report):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(invocation.overrides)
        real(invocation, report=report)

    monkeypatch.setattr(modes, "train", train)
    assert cli.run(LINE, flags) == 130
    monkeypatch.setattr(modes, "train", real)
    before = summary_time("bias=false,seed=0")
    capsys.readouterr()
    assert cli.run(LINE, flags) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if line.startswith("run ")] == [
        f"run {number}/4: bias={bias},seed={seed}"
        for number, (bias, seed) in enumerate(itertools.product(("false", "true"), (0, 1)), 1)
    ]
    assert summary_time("bias=false,seed=0") == before  # a complete run is not trained again

    folder = RunFolder("runs/line-quick-biases")
    summary = folder.read_summary()
    assert [group["settings"] for group in summary["groups"]] == [{"bias": False}, {"bias": True}]
    for found in summary["groups"]:
        singles = [RunFolder(folder.runs / run) for run in found["runs"]]
        values = [single.read_summary()["metrics"]["held_out_loss"] for single in singles]
        assert found["metrics"]["held_out_loss"]["values"] == values
        mean, deviation = np.mean(values), np.std(values, ddof=1)
        bias = str(found["settings"]["bias"]).lower()
        assert f"bias={bias}: held_out_loss {mean:.4f} ± {deviation:.4f}" in out
        assert [single.read_summary()["seed"] for single in singles] == [0, 1]
        settings = singles[0].read_config()["settings"]
        assert (settings["learning_rate"], settings["log_every"]) == (
            0.5,
            2,
        )  # flags override the sweep
    verdict = re.search("^held_out_loss: .*bias=true.*bias=false.* 2 seeds.*$", out, re.MULTILINE)
    assert verdict, out
    page = folder.report.read_text()
    assert "Does a bias help?" in page
    rows = RunFolder(folder.runs / "bias=true,seed=0").read_metrics()
    assert rows[0]["split"] == "held_out"  # the order of the lab, not alphabetical
    assert page.count("<img") == 2  # metrics against settings, losses
    capsys.readouterr()
    assert cli.run(LINE, [*flags, "--steps=5"]) == 2
    assert "steps (stored 4, given 5)" in capsys.readouterr().err


def test_followed_settings_apply_unless_a_flag_overrides_them(here):
    sweep = Sweep(
        question="Is it the batch or the steps?",
        axes={"batch_size": (4, 8)},
        metrics=("held_out_loss",),
        settings={"steps": 100},
        derived_settings=lambda point: {
            "steps": 16 // point["batch_size"],
            "seed": point["batch_size"],
        },
    )
    lab = dataclasses.replace(LINE, sweeps={"sizes": sweep})
    assert cli.run(lab, ["--sweep=sizes", "--seed=7"]) == 0
    for size in (4, 8):
        summary = RunFolder(f"runs/line-quick-sizes/runs/batch_size={size}").read_summary()
        assert (summary["steps"], summary["seed"]) == (16 // size, 7)


def test_run_of_a_sweep_equals_the_run_of_its_command():
    assert cli.run(LINE, ["--sweep=seeds"]) == 0
    one, other = RunFolder("runs/line-quick-seeds/runs/seed=3"), RunFolder("runs/line-quick")
    words = shlex.split(one.read_config()["command"])[2:]
    assert words[:2] == ["--preset=quick", "--seed=3"]
    assert cli.run(LINE, [*words[:-1], "--workdir=runs/line-quick"]) == 0
    assert " squares" in other.report.read_text()
    digests = [run.read_summary()["parameters_sha256"] for run in (one, other)]
    assert digests[0] == digests[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetConfig(FitConfig):
    """Settings whose defaults are incompatible: valid only with a preset."""

    def check(self):
        super().check()
        if self.steps > 10:
            raise UserError(f"--steps: {self.steps} is not accepted; at most 10")


@pytest.mark.parametrize("flags", [[], ["--mode=evaluate"], ["--mode=analyze"], ["--sweep=seeds"]])
def test_settings_may_be_valid_only_with_a_preset(flags):
    lab = dataclasses.replace(LINE, config_class=PresetConfig)
    train = [flag for flag in flags if not flag.startswith("--mode")]
    for given in (train, flags):
        assert cli.run(lab, given) == 0


@pytest.mark.parametrize("workdir", [[], ["--workdir=run"]])
def test_better_rate_can_be_trained_after_a_range_test(workdir, here):
    assert cli.run(LINE, ["--mode=lr_range", *workdir]) == 0
    tested = RunFolder("run" if workdir else "runs/line-quick-lr_range")
    assert tested.arrays("lr_range").exists()
    assert cli.run(LINE, ["--mode=lr_range", "--batch_size=8", *workdir]) == 0
    assert cli.run(LINE, ["--learning_rate=0.25", *workdir]) == 0
    trained = RunFolder("run" if workdir else "runs/line-quick")
    assert trained.read_config()["settings"]["learning_rate"] == 0.25
    assert trained.is_complete()


def test_lr_range_without_a_learning_rate_creates_no_folder(here, capsys):
    assert cli.run(LINE, ["--optimizer=lbfgs", "--batch_size=8", "--mode=lr_range"]) == 2
    assert "--mode=lr_range: lbfgs has no learning rate" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_suite_resumes_runs_that_are_valid_only_with_a_preset():
    both = Suite(
        name="all",
        description="All.",
        config_class=SuiteConfig,
        presets={"quick": {}},
        labs={"line": dataclasses.replace(LINE, config_class=PresetConfig)},
    )
    for _ in range(2):
        assert cli.run(both, []) == 0


def test_diverged_run_is_a_result(monkeypatch):
    real = modes.train

    def train(invocation, *, report):
        if invocation.overrides["seed"] == 3:
            raise NonFiniteError("planted")
        real(invocation, report=report)

    monkeypatch.setattr(modes, "train", train)
    assert cli.run(LINE, ["--sweep=seeds"]) == 0
    (group,) = RunFolder("runs/line-quick-seeds").read_summary()["groups"]
    assert group["metrics"]["held_out_loss"]["mean"] is None
    assert group["metrics"]["held_out_loss"]["values"][1] > 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--sweep=biasses"], "--sweep: 'biasses' is not accepted; one of biases, seeds; did you"),
        (["--sweep=seeds", "--seed=1"], "--seed: the sweep seeds varies it; leave it out"),
        (
            ["--sweep=seeds", "--mode=sample"],
            "--sweep: not accepted with --mode=sample; --mode=train",
        ),
        (["--sweep=seeds", "--num_processes=2", "--coordinator=a:1"], "--num_processes: 2 is not"),
    ],
)
def test_invalid_sweep_gives_one_line(here, capsys, flags, line):
    assert cli.run(LINE, flags) == 2
    assert capsys.readouterr().err.startswith(f"line: {line}")
    assert not (here / "runs").exists()


def test_lab_without_sweeps_has_no_sweep_flag(capsys):
    assert cli.run(dataclasses.replace(LINE, sweeps={}), ["--sweep=seeds"]) == 2
    assert "--sweep: unknown flag" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountConfig(CommonConfig):
    largest: int = setting(3, "last number of the sum", minimum=1)


MEASURED = []


def count(config, folder):
    MEASURED.append(config.largest)
    return StudyResult({"sum": float(sum(range(config.largest + 1)))}, "counted", {"counts": [1]})


STUDY = Study(
    name="count",
    description="Counts.",
    config_class=CountConfig,
    presets={"quick": {}, "far": {"largest": 5}},
    measure=count,
)


def test_study_runs_once_and_is_reported(capsys):
    assert cli.run(STUDY, ["--preset=far"]) == 0
    assert "counted" in capsys.readouterr().out
    folder = RunFolder("runs/count-far")
    summary = folder.read_summary()
    assert summary["metrics"] == {"sum": 15.0}
    assert summary["counts"] == [1]
    assert "counted" in folder.report.read_text()
    calls = len(MEASURED)
    assert cli.run(STUDY, ["--preset=far"]) == 0
    assert len(MEASURED) == calls
    assert cli.run(STUDY, ["--preset=far", "--largest=6"]) == 2
    assert "largest (stored 5, given 6)" in capsys.readouterr().err
    assert cli.run(STUDY, ["--preset=far", "--largest=6", "--overwrite"]) == 0
    assert json.loads((folder.path / "summary.json").read_text())["metrics"] == {"sum": 21.0}


def test_study_refused_late_does_not_block_the_corrected_command(capsys):
    def measure(config, folder):
        if config.largest > 4:
            raise UserError("--largest: too large")
        return count(config, folder)

    study = dataclasses.replace(STUDY, measure=measure)
    assert cli.run(study, ["--largest=5"]) == 2
    assert cli.run(study, ["--largest=4"]) == 0
    capsys.readouterr()
    assert cli.run(study, ["--largest=3"]) == 2
    assert "largest (stored 4, given 3)" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadConfig(CommonConfig):
    dataset: str = setting("none", "a file", path_unless=("none",))


def read(config):
    if not pathlib.Path(config.dataset).exists():
        raise UserError("--dataset: no such file")
    text = pathlib.Path(config.dataset).read_text()
    return StudyData(text, {"name": config.dataset, "sha256": text}, warning="read again")


def test_study_compares_its_data_by_contents(here, capsys):
    study = Study(
        name="lengths",
        description="Measures the length of a text.",
        config_class=ReadConfig,
        presets={"quick": {}},
        measure=lambda config, folder, data: StudyResult({"length": len(data.content)}, "measured"),
        load_data=read,
    )
    flags = ["--workdir=run"]
    assert cli.run(study, [*flags, "--dataset=gone.txt"]) == 2
    assert not (here / "run").exists()  # errors of the data come first
    pathlib.Path("a.txt").write_text("abc")
    capsys.readouterr()
    assert cli.run(study, [*flags, "--dataset=a.txt"]) == 0
    assert capsys.readouterr().err == "read again\n"
    assert RunFolder("run").read_config()["settings"]["dataset"] == str(here / "a.txt")
    assert RunFolder("run").read_summary()["metrics"] == {"length": 3}
    pathlib.Path("a.txt").rename("b.txt")
    assert cli.run(study, [*flags, "--dataset=b.txt"]) == 0
    pathlib.Path("b.txt").write_text("other")
    assert cli.run(study, [*flags, "--dataset=b.txt"]) == 2
    assert "the data set's contents (read again)" in capsys.readouterr().err


def test_study_and_lab_refuse_flags_and_folders_of_each_other(capsys):
    assert cli.run(STUDY, ["--mode=sample"]) == 2
    assert cli.run(STUDY, ["--largest=0"]) == 2
    assert cli.run(STUDY, []) == 0
    capsys.readouterr()
    assert cli.run(LINE, ["--workdir=runs/count-quick"]) == 2
    assert "holds a run of count" in capsys.readouterr().err
