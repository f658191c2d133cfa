"""Optional features of the character GPT, including multi-process training."""

import functools
import math
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import jaxlabs
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.gpt.lab import LAB, GPTRunConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training import devices
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.state import leaf_names

pytestmark = pytest.mark.usefixtures("reused_executables")

CHECKOUT = Path(jaxlabs.__file__).parents[1]


def rows_of(folder, split):
    return [row for row in folder.read_metrics() if row["split"] == split]


@pytest.mark.slow
def test_evaluation_of_the_best_checkpoint(ours, capsys):
    folder = ours(
        "--steps=12", "--learning_rate=10", "--keep_checkpoints=1", "--grad_clip_norm=none"
    )
    losses = {row["step"]: row["loss"] for row in rows_of(folder, "held_out") if row["step"]}
    best = min(losses, key=losses.get)
    kept = {int(path.name) for path in folder.checkpoints.iterdir()}
    assert kept == {best, 12}
    capsys.readouterr()
    flags = ["--mode=evaluate", "--checkpoint=best", f"--workdir={folder.path}"]
    assert cli.run(LAB, flags) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(printed["held_out_loss"]) == pytest.approx(losses[best], abs=2e-4)


@pytest.mark.slow
def test_ema_parameters_are_sampled_and_exported(ours, exported):
    folder = ours("--steps=8", "--ema_decay=0.5", "--learning_rate=0.1")
    with exported(folder) as (params, metadata):
        config = GPTRunConfig.from_flat(metadata["settings"])
        task = gpt.build_task(config, metadata["data_spec"])
        like = initial_state(task, config, devices.data_parallel())
        with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
            state = jax.device_get(checkpoints.restore(like))
        chex.assert_trees_all_equal(params, state.ema_params)
        sample = functools.partial(gpt.sample, config, task, metadata["data_spec"])
        samples = sample(state, jax.random.key(0))
        assert samples == sample(state.replace(params=None), jax.random.key(0))
        differing = [
            np.any(a != b)
            for a, b in zip(*map(jax.tree.leaves, (params, state.params)), strict=True)
        ]
        assert all(differing)


@pytest.mark.slow
def test_profile_holds_a_trace_of_one_later_call(ours):
    folder = ours("--steps=8", "--profile")
    (trace,) = (folder.path / "profile").rglob("*.xplane.pb")
    assert b"multi_step" in trace.read_bytes()


@pytest.mark.slow
def test_learning_rate_range_test_leaves_a_curve_and_a_report(ours, capsys):
    folder = ours("--lr_range_test", "--steps=4")
    assert capsys.readouterr().out == f"learning-rate range test: {folder.report}\n"
    with np.load(folder.arrays("lr_range")) as arrays:
        rates, losses = arrays["learning_rate"], arrays["loss"]
    assert rates.shape == losses.shape
    assert np.all(np.diff(np.log(rates)) > 0)
    assert losses.min() < losses[0] - 0.1
    assert "<html" in folder.report.read_text()
    assert not list(folder.checkpoints.iterdir())


@pytest.mark.slow
def test_replayed_step_prints_loss_and_gradient_rms(ours, capsys, exported):
    folder = ours("--steps=6", "--log_every=1", "--dropout=0.2")
    before = folder.metrics.read_bytes()
    capsys.readouterr()
    ours("--steps=6", "--dropout=0.2", "--replay_step=6")
    values = {
        name: float(value) for value, name in map(str.split, capsys.readouterr().out.splitlines())
    }
    logged = rows_of(folder, "train")[5]
    assert logged["step"] == 6
    assert values.pop("loss") == pytest.approx(logged["loss"], rel=1e-4)
    assert all(value > 0 for value in values.values())
    with exported(folder) as (params, _):
        sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        assert list(values) == leaf_names(params)
    norm = math.sqrt(sum(size * rms**2 for size, rms in zip(sizes, values.values(), strict=True)))
    assert norm == pytest.approx(logged["gradient_norm"], rel=1e-4)
    assert folder.metrics.read_bytes() == before


def test_two_processes_equal_one(ours, tiny_flags, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = [*tiny_flags, "--steps=4", "--eval_every=2", "--platform=cpu"]
    hosts = [f"--workdir={tmp_path / 'two'}", f"--coordinator={address}", "--num_processes=2"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.gpt", *flags, *hosts, f"--process_id={number}"],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "report" in outputs[0]
    assert "report" not in outputs[1]
    one, two = ours(*flags, name="one"), RunFolder(tmp_path / "two")
    metrics = [
        {name: value for name, value in run.read_summary()["metrics"].items() if "loss" in name}
        for run in (one, two)
    ]
    chex.assert_trees_all_close(*metrics, rtol=1e-5)
