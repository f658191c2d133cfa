"""A run of the character GPT: outputs, resumption, and later modes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import pytest

import jaxlabs
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.gpt.lab import LAB, GPTRunConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder.files import SEPARATOR
from jaxlabs.runner import cli
from jaxlabs.training import devices
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("reused_executables")

CHECKOUT = Path(jaxlabs.__file__).parents[1]
STEPS = 2000  # seconds of training, long enough to be interrupted on any machine


@pytest.fixture(scope="module")
def start(tiny_flags, executables):
    """`start(folder) -> Popen`: the command in its own process."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(executables),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    pace = ["--eval_every=200", "--checkpoint_every=100", "--log_every=50", "--steps_per_call=20"]
    flags = [*tiny_flags, *pace, f"--steps={STEPS}", "--platform=cpu", "--tensorboard"]

    def begin(folder):
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.gpt", *flags, f"--workdir={folder}"],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    begin.flags = flags
    return begin


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """(run folder, stdout) of an uninterrupted run; read only."""
    path = tmp_path_factory.mktemp("whole") / "run"
    process = start(path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return RunFolder(path), out


def test_run_folder_has_all_outputs(whole):
    folder, out = whole
    config, summary = folder.read_config(), folder.read_summary()
    assert {"experiment", "preset", "settings", "versions", "device", "dataset"} <= config.keys()
    assert config["settings"]["embed_dim"] == 16
    device = {"platform": "cpu", "kind": "cpu", "devices": 1, "processes": 1}
    assert config["device"].items() >= device.items()
    assert config["device"].keys() - device.keys() == {"processor", "cores"}
    assert summary.keys() >= {
        "experiment",
        "preset",
        "dataset",
        "seed",
        "steps",
        "parameters",
        "parameters_sha256",
        "seconds",
        "steps_per_second",
        "compile_seconds",
        "peak_memory_bytes",
        "metrics",
        "baselines",
        "comparison",
        "environment",
    }
    assert summary["metrics"].keys() >= {
        "held_out_loss",
        "train_windows_loss",
        "train_and_val_loss",
        "sliding_window_loss",
        "train_loss",
        "sample_real_words",
        "sample_longest_copy",
        "sample_named_speeches",
        "attention_future_weight",
        "attention_row_sum_error",
    }
    assert summary["metrics"].keys() >= set(LAB.sweeps["precision"].metrics)
    assert summary["metrics"]["held_out_loss"] < summary["baselines"]["unigram"]
    assert summary["metrics"]["attention_future_weight"] == 0
    assert len(summary["parameters_sha256"]) == 64
    for row in summary["comparison"]:
        assert {
            "quantity",
            "published",
            "ours",
            "source",
            "comparable",
            "not_comparable_reason",
        } <= row.keys()
        assert not row["comparable"]
        assert "not on the published data" in row["not_comparable_reason"]
    checkpoints = {int(path.name) for path in folder.checkpoints.iterdir()}
    assert {STEPS - 100, STEPS} <= checkpoints
    assert len(checkpoints) <= 3  # the best one may be a third
    arrays = {path.name for path in (folder.path / "arrays").iterdir()}
    assert {"attention_maps.npz", "positions.npz"} <= arrays
    steps = range(0, STEPS + 1, 200)
    samples = {"final", *(f"step-{step:06d}" for step in steps)}
    files = {f"{name}.{kind}" for name in samples for kind in ("txt", "json")}
    assert {path.name for path in folder.samples.iterdir()} == files
    final = (folder.samples / "final.txt").read_text()
    assert final in out
    assert [len(one) for one in final.split(SEPARATOR)] == [len("ROMEO:") + 8] * 3
    assert {"loss.png", "attention_grid.png"} <= {path.name for path in folder.figures.iterdir()}
    assert "<html" in folder.report.read_text()
    assert f"report: {folder.report}" in out


def test_finished_run_can_be_rerun_evaluated_and_analyzed(whole, rerun):
    rerun(LAB, whole[0])


def test_rows_of_a_run_stand_at_their_steps(whole):
    rows = whole[0].read_metrics()
    for split in ("held_out", "train_windows", "train_and_val"):
        steps = [row["step"] for row in rows if row["split"] == split]
        assert steps == list(range(0, STEPS + 1, 200))
    training = [row for row in rows if row["split"] == "train"]
    assert [row["step"] for row in training] == list(range(50, STEPS + 1, 50))
    assert all({"loss", "learning_rate", "gradient_norm"} <= row.keys() for row in training)


def test_event_files_hold_the_losses(whole):
    folder, _ = whole
    (events,) = (folder.path / "tensorboard").glob("events.out.tfevents.*")
    content = events.read_bytes()
    for name in (b"train/loss", b"held_out/loss", b"train/learning_rate"):
        assert name in content
    assert len(re.findall(rb"held_out/loss(?!_stderr)", content)) == STEPS // 200 + 1


def test_rerun_of_a_finished_run_changes_nothing(whole, start, capsys):
    folder, _ = whole
    kept = {path: path.read_bytes() for path in folder.path.rglob("*.json*") if path.is_file()}
    assert cli.run(LAB, [*start.flags, f"--workdir={folder.path}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"run already complete ({STEPS} steps); report: {folder.report}\n"
    assert err == ""
    assert {path: path.read_bytes() for path in kept} == kept


def interrupt(process, step, number):
    """Sends a signal once the run has evaluated after that step; returns (status, stderr)."""
    for line in process.stderr:
        if line.startswith("step ") and int(line.split()[1].split("/")[0]) >= step:
            break
    process.send_signal(number)
    _, err = process.communicate()
    assert "Traceback" not in err
    return process.returncode, err


def test_interrupted_and_killed_run_resumes_to_the_same_end(
    whole, start, require_same_end, tmp_path
):
    folder = RunFolder(tmp_path / "run")
    status, err = interrupt(start(folder.path), 200, signal.SIGTERM)
    assert status == 143
    line = err.splitlines()[-1]
    assert line.startswith("gpt: interrupted at step ")
    assert line.endswith(f"/{STEPS}, checkpoint saved; run the same command to resume")
    stopped = int(line.split()[4].split("/")[0])
    assert 200 <= stopped < STEPS
    assert not folder.is_complete()

    status, _ = interrupt(start(folder.path), 800, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not folder.is_complete()

    process = start(folder.path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "resuming at step" in err
    unbroken = whole[0]
    require_same_end(folder, unbroken)
    samples = [
        {path.name: path.read_text() for path in one.samples.iterdir()}
        for one in (folder, unbroken)
    ]
    assert samples[0] == samples[1]


def test_samples_follow_the_flags(whole, capsys):
    folder, _ = whole
    flags = ["--mode=sample", f"--workdir={folder.path}", "--prompt=the king", "--num_samples=2"]
    before = sorted(folder.path.rglob("*"))
    printed = []
    for temperature in (0, 0, 5):
        more = [f"--temperature={temperature}", "--max_new_tokens=40"]
        assert cli.run(LAB, [*flags, *more]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        printed.append(out.removesuffix("\n").split(SEPARATOR))
    for samples in printed:
        assert [one[:8] for one in samples] == ["the king"] * 2
        assert [len(one) for one in samples] == [8 + 40] * 2  # beyond the context of 16
    assert printed[0] == printed[1]
    assert printed[0][0] == printed[0][1]  # greedy decoding is deterministic
    assert printed[2][0] != printed[2][1]
    assert sorted(folder.path.rglob("*")) == before


def test_evaluation_reproduces_the_metrics(whole, capsys):
    folder, _ = whole
    assert cli.run(LAB, ["--mode=evaluate", f"--workdir={folder.path}"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    metrics = folder.read_summary()["metrics"]
    splits = {name.removesuffix("_loss") for name in printed if name.endswith("_loss")}
    assert splits == {"held_out", "train_windows", "train_and_val", "sliding_window"}
    for name, value in printed.items():
        assert float(value) == pytest.approx(metrics[name], abs=2e-4)


def test_exported_parameters_are_those_of_the_run(whole, capsys, exported):
    folder, _ = whole
    with exported(folder) as (params, metadata):
        assert f"{count_parameters(params):,} parameters of step {STEPS}" in capsys.readouterr().out
        assert metadata["step"] == STEPS
        stored = folder.read_config()["settings"]
        assert metadata["settings"] == stored | {"platform": "auto"}
        config = GPTRunConfig.from_flat(metadata["settings"])
        task = gpt.build_task(config, metadata["data_spec"])
        like = initial_state(task, config, devices.data_parallel())
        with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
            state = checkpoints.restore(like)
        chex.assert_trees_all_equal(params, jax.device_get(state.params))
        assert count_parameters(params) == folder.read_summary()["parameters"]
