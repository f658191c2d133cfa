"""Ctrl-C and SIGTERM in every phase of a command: one line, an exit status, and exact resume."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlabs
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes, sweeps
from jaxlabs.runner.lab import Lab, Study, StudyResult
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training import trainer
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.run_config import CommonConfig, RunConfig
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

POINTS = Examples({"x": np.ones((8, 1), np.float32), "y": np.ones(8, np.float32)})


def loss(model, variables, batch, key, **_):
    y = model.apply(variables, batch["x"])[:, 0]
    squares = jnp.square(y - batch["y"]) * batch["weights"]
    return LossOutput(squares.sum(), batch["weights"].sum(), {})


train_step = build_train_step(loss)
model = nn.Dense(1)


def analyze(config, task, data, state, folder):
    folder.write_arrays("lr_range", learning_rate=np.array([0.1, 0.2, 0.4]), loss=np.ones(3))
    return {}


LINE = Lab(
    name="line",
    description="Fits a line.",
    config_class=RunConfig,
    presets={"quick": {"steps": 4, "batch_size": 4, "eval_batch_size": 8, "checkpoint_every": 2}},
    load_data=lambda config: DataModule(
        train=POINTS,
        eval_sets={"held_out": POINTS},
        final_eval_sets=lambda: {"all": POINTS},
        dataset={"name": "line", "source": "made up", "sha256": "0"},
        comparable=False,
        data_spec={},
        baselines=dict,
    ),
    build_task=lambda config, data_spec: Task(
        model, lambda key: model.init(key, jnp.zeros((1, 1))), loss, train_step
    ),
    sample=lambda config, task, data_spec, state, key: "a line",
    analyze=analyze,
    sweeps={"seeds": Sweep(question="Luck?", axes={"seed": (3, 4)}, metrics=("held_out_loss",))},
)
RUN = ["--platform=cpu", "--workdir=run"]


@contextlib.contextmanager
def interruption(owner, name, number, call=1):
    """Raises a signal at the n-th call of a function."""
    original, calls = getattr(owner, name), []

    def interrupted(*arguments, **named):
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(number)
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, reused_executables, quickly_compiled):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    assert cli.run(LINE, ["--platform=cpu", f"--workdir={path}"]) == 0
    return RunFolder(path).read_summary()


def test_mode_evaluate_prints_the_final_evaluation_sets_too(capsys):
    assert cli.run(LINE, RUN) == 0
    capsys.readouterr()
    assert cli.run(LINE, ["--mode=evaluate", *RUN]) == 0
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    metrics = RunFolder("run").read_summary()["metrics"]
    assert lines.keys() == {"held_out_loss", "all_loss"}
    for name, value in lines.items():
        assert float(value) == pytest.approx(metrics[name.replace("/", "_")], abs=1e-4)


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "owner", "name", "call", "place"),
    [
        (signal.SIGTERM, cli, "parse", 1, ""),
        (signal.SIGINT, DataModule, "__init__", 1, ""),
        (signal.SIGTERM, trainer, "initial_state", 1, ""),
        (signal.SIGINT, Evaluator, "__call__", 1, ""),  # at step 0
        (signal.SIGTERM, trainer.Trainer, "train_chunk", 1, " at step 1/4, checkpoint saved"),
        (signal.SIGINT, Checkpoints, "save", 1, " at step 2/4, checkpoint saved"),
        (signal.SIGTERM, Evaluator, "__call__", 2, " at step 4/4, checkpoint saved"),
        (signal.SIGINT, Evaluator, "__call__", 3, " in the final evaluation"),
        (signal.SIGTERM, modes, "summarize", 1, " after training"),
        (signal.SIGINT, modes, "write_report", 1, " after training"),
    ],
)
def test_signal_anywhere_in_a_run_gives_one_line_and_the_same_command_resumes(
    unbroken, capsys, number, owner, name, call, place
):
    with interruption(owner, name, number, call):
        assert cli.run(LINE, RUN) == 128 + number
    assert last_line(capsys) == f"line: interrupted{place}; run the same command to resume"
    folder = RunFolder("run")
    assert folder.is_complete() == (name == "write_report")
    assert not [*folder.path.rglob("*.partial"), *folder.path.rglob("*orbax-checkpoint-tmp*")]
    assert cli.run(LINE, RUN) == 0
    assert folder.read_summary()["parameters_sha256"] == unbroken["parameters_sha256"]
    assert folder.read_summary()["metrics"] == unbroken["metrics"]
    assert folder.report.exists()


@pytest.mark.parametrize(
    ("flags", "owner", "name"),
    [
        (["--mode=sample"], Checkpoints, "restore"),
        (["--mode=evaluate"], Evaluator, "__call__"),
        (["--mode=analyze"], RunFolder, "write_arrays"),
        (["--mode=analyze"], modes, "write_report"),
        (["--mode=export"], modes, "export_safetensors"),
        (["--mode=lr_range"], modes, "range_test"),
        (["--mode=replay", "--replay_step=2"], modes, "replay"),
    ],
)
def test_signal_in_a_reading_mode_leaves_the_run_unchanged(
    unbroken, tmp_path, capsys, flags, owner, name
):
    assert cli.run(LINE, RUN) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with interruption(owner, name, signal.SIGTERM):
        assert cli.run(LINE, [*RUN, *flags]) == 143
    assert last_line(capsys) == "line: interrupted; run the same command to resume"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    after = {path: after[path] for path in before}
    arrays = RunFolder("run").arrays("lr_range").absolute()
    assert after | {arrays: b""} == before | {arrays: b""}
    assert cli.run(LINE, [*RUN, *flags]) == 0


def test_signal_in_a_sweep_ends_it_and_the_same_command_resumes(capsys):
    flags = [*RUN, "--sweep=seeds"]
    with interruption(trainer.Trainer, "train_chunk", signal.SIGTERM, call=4):
        assert cli.run(LINE, flags) == 143
    assert last_line(capsys) == (
        "line: interrupted in the run seed=4, at step 1/4, checkpoint saved; run the same command"
        " to resume"
    )
    with interruption(sweeps, "write_report", signal.SIGINT):
        assert cli.run(LINE, flags) == 130
    assert cli.run(LINE, flags) == 0
    assert RunFolder("run").report.exists()


def test_signal_in_a_study_ends_it_and_the_same_command_resumes(capsys):
    def measure(config, folder):
        return StudyResult({"sum": 1.0}, "measured")

    study = Study(
        name="study",
        description="",
        config_class=CommonConfig,
        presets={"quick": {}},
        measure=measure,
    )
    for name, done in (("summarize_study", False), ("write_report", True)):
        with interruption(modes, name, signal.SIGTERM):
            assert cli.run(study, RUN) == 143
        assert last_line(capsys) == "study: interrupted; run the same command to resume"
        assert RunFolder("run").is_complete() == done
    assert cli.run(study, RUN) == 0
    assert RunFolder("run").report.exists()


def test_interruption_wrapped_in_another_error_is_recognized(capsys):
    def load_data(config):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("CpuCallback error") from None

    assert cli.run(dataclasses.replace(LINE, load_data=load_data), RUN) == 143
    assert capsys.readouterr().err == "line: interrupted; run the same command to resume\n"


def test_second_ctrl_c_during_a_checkpoint_does_not_report_it_as_saved(
    monkeypatch, unbroken, capsys
):
    save = Checkpoints.save

    def interrupted_twice(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted_twice)
        assert cli.run(LINE, RUN) == 130
    assert last_line(capsys) == "line: interrupted; run the same command to resume"
    assert cli.run(LINE, RUN) == 0
    assert RunFolder("run").read_summary()["metrics"] == unbroken["metrics"]


def test_shell_list_stops_after_an_interrupted_command():
    script = "import os, signal\nfrom jaxlabs.training import signals\nsignals.guard()\n"
    script += "os.kill(os.getpid(), signal.SIGTERM)\nimport time; time.sleep(9)"
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{script}' && echo next; echo $?"],
        cwd=os.path.dirname(os.path.dirname(jaxlabs.__file__)),
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "143\n"
