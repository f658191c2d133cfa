"""The character GPT from its command line: what a run leaves, resumes, and learns."""

import contextlib
import math
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from experiments import gpt
from experiments.gpt import LAB, GPTConfig
from jaxlabs import command
from jaxlabs.analysis.text_samples import RULE
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import devices
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.export import load_safetensors
from jaxlabs.training.loop import initial_state
from jaxlabs.training.state import count_parameters, leaf_names

pytestmark = pytest.mark.usefixtures("reused_executables")

CHECKOUT = Path(gpt.__file__).parents[1]
STEPS = 2000  # seconds of training: long enough to be interrupted, whatever the machine
TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture
def ours(tiny_flags, tmp_path):
    """`ours(*flags, name="run") -> RunFolder`: one command in this process, with tiny settings."""

    def run(*flags, name="run"):
        folder = RunFolder(tmp_path / name)
        assert command.run(LAB, [*tiny_flags, f"--workdir={folder.path}", *flags]) == 0
        return folder

    return run


@pytest.fixture(scope="module")
def start(tiny_flags, executables):
    """`start(folder) -> Popen`: the command as a user gives it, in a process of its own."""
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
    """(run folder, stdout) of a run that nothing disturbed; tests read it only."""
    path = tmp_path_factory.mktemp("whole") / "run"
    process = start(path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return RunFolder(path), out


def rows_without_time(folder):
    return [
        {name: value for name, value in row.items() if name not in TIME_FIELDS}
        for row in folder.read_metrics()
    ]


def test_run_folder_holds_what_a_run_is_to_leave(whole):
    folder, out = whole
    config, summary = folder.read_config(), folder.read_summary()
    assert {"experiment", "preset", "settings", "versions", "device", "dataset"} <= config.keys()
    assert config["settings"]["width"] == 16
    device = {"platform": "cpu", "kind": "cpu", "devices": 1, "processes": 1}
    assert config["device"].items() >= device.items()
    assert config["device"].keys() - device.keys() == {"processor", "cores"}
    assert summary.keys() >= {
        *("experiment", "preset", "dataset", "seed", "steps", "parameters", "parameters_sha256"),
        *("seconds", "steps_per_second", "compile_seconds", "peak_memory_bytes", "metrics"),
        *("baselines", "compared", "environment"),
    }
    assert summary["metrics"].keys() >= {
        *("held_out_loss", "train_windows_loss", "whole_text_loss", "sliding_window_loss"),
        *("train_loss", "sample_real_words", "sample_longest_copy", "sample_named_speeches"),
        *("attention_future_weight", "attention_row_sum_error"),
    }
    assert summary["metrics"]["held_out_loss"] < summary["baselines"]["unigram"]
    assert summary["metrics"]["attention_future_weight"] == 0
    assert len(summary["parameters_sha256"]) == 64
    for row in summary["compared"]:
        assert {"figure", "published", "ours", "source", "comparable", "why_not"} <= row.keys()
        assert not row["comparable"]
        assert "not on the published data" in row["why_not"]
    checkpoints = {int(path.name) for path in folder.checkpoints.iterdir()}
    assert {STEPS - 100, STEPS} <= checkpoints
    assert len(checkpoints) <= 3  # the best one may be a third
    arrays = {path.name for path in (folder.path / "arrays").iterdir()}
    assert {"attention_maps.npz", "positions.npz"} <= arrays
    steps = range(0, STEPS + 1, 200)
    samples = {"final.txt", *(f"step-{step:06d}.txt" for step in steps)}
    assert {path.name for path in folder.samples.iterdir()} == samples
    final = (folder.samples / "final.txt").read_text()
    assert final in out
    assert [len(one) for one in final.split(RULE)] == [len("ROMEO:") + 8] * 3
    assert {"loss.png", "attention_grid.png"} <= {path.name for path in folder.figures.iterdir()}
    assert "<html" in folder.report.read_text()
    assert f"report: {folder.report}" in out


def test_rows_of_a_run_stand_at_their_steps(whole):
    rows = whole[0].read_metrics()
    for split in ("held_out", "train_windows", "whole_text"):
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
    assert content.count(b"held_out/loss") == STEPS // 200 + 1


def test_same_command_again_says_that_all_is_done_and_changes_nothing(whole, start, capsys):
    folder, _ = whole
    kept = {path: path.read_bytes() for path in folder.path.rglob("*.json*") if path.is_file()}
    assert command.run(LAB, [*start.flags, f"--workdir={folder.path}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"all {STEPS} steps are done; report: {folder.report}\n"
    assert err == ""
    assert {path: path.read_bytes() for path in kept} == kept


def interrupt(process, step, number):
    """Sends a signal once the run has evaluated after that step; returns (status, stdout)."""
    for line in process.stderr:
        if line.startswith("step ") and int(line.split()[1].split("/")[0]) >= step:
            break
    process.send_signal(number)
    out, err = process.communicate()
    assert "Traceback" not in err
    return process.returncode, out


def test_run_that_is_stopped_and_killed_ends_as_one_that_was_not(whole, start, tmp_path):
    folder = RunFolder(tmp_path / "run")
    status, out = interrupt(start(folder.path), 200, signal.SIGTERM)
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("stopped at step ")]
    assert line.endswith(f"of {STEPS} and saved; the same command goes on")
    stopped = int(line.split()[3])
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
    ours, theirs = folder.read_summary(), unbroken.read_summary()
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]
    assert rows_without_time(folder) == rows_without_time(unbroken)
    samples = [
        {path.name: path.read_text() for path in one.samples.iterdir()}
        for one in (folder, unbroken)
    ]
    assert samples[0] == samples[1]


def test_samples_are_drawn_as_the_flags_say(whole, capsys):
    folder, _ = whole
    flags = ["--mode=sample", f"--workdir={folder.path}", "--prompt=the king", "--num_samples=2"]
    before = sorted(folder.path.rglob("*"))
    printed = []
    for temperature in (0, 0, 5):
        more = [f"--temperature={temperature}", "--max_new_tokens=40"]
        assert command.run(LAB, [*flags, *more]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        printed.append(out.removesuffix("\n").split(RULE))
    for samples in printed:
        assert [one[:8] for one in samples] == ["the king"] * 2
        assert [len(one) for one in samples] == [8 + 40] * 2  # beyond the context of 16
    assert printed[0] == printed[1]
    assert printed[0][0] == printed[0][1]  # the likeliest character is the same for every sample
    assert printed[2][0] != printed[2][1]
    assert sorted(folder.path.rglob("*")) == before


def test_evaluation_repeats_the_figures_of_the_run(whole, capsys):
    folder, _ = whole
    assert command.run(LAB, ["--mode=evaluate", f"--workdir={folder.path}"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    metrics = folder.read_summary()["metrics"]
    assert len(printed) == 6
    for name, value in printed.items():
        assert float(value) == pytest.approx(metrics[name.replace("/", "_")], abs=2e-4)


def test_evaluation_can_take_the_best_checkpoint(ours, capsys):
    folder = ours("--steps=12", "--learning_rate=10", "--keep_checkpoints=1", "--clip_norm=none")
    losses = {row["step"]: row["loss"] for row in rows_of(folder, "held_out") if row["step"]}
    best = min(losses, key=losses.get)
    kept = {int(path.name) for path in folder.checkpoints.iterdir()}
    assert kept == {best, 12}
    capsys.readouterr()
    flags = ["--mode=evaluate", "--checkpoint=best", f"--workdir={folder.path}"]
    assert command.run(LAB, flags) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(printed["held_out/loss"]) == pytest.approx(losses[best], abs=2e-4)


def rows_of(folder, split):
    return [row for row in folder.read_metrics() if row["split"] == split]


def test_exported_parameters_are_those_of_the_run(whole, capsys):
    folder, _ = whole
    with exported(folder) as (params, metadata):
        assert f"{count_parameters(params):,} parameters of step {STEPS}" in capsys.readouterr().out
        assert metadata["step"] == STEPS
        stored = folder.read_config()["settings"]
        assert metadata["settings"] == stored | {"platform": "auto"}
        config = GPTConfig.from_flat(metadata["settings"])
        task = gpt.build_task(config, metadata["vocabulary"])
        like = initial_state(task, config, devices.data_parallel())
        with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
            state = checkpoints.restore(like)
        chex.assert_trees_all_equal(params, jax.device_get(state.params))
        assert count_parameters(params) == folder.read_summary()["parameters"]


@contextlib.contextmanager
def exported(folder):
    """Exports a run, and takes the file away again: other tests read the folder too."""
    path = folder.path / "parameters.safetensors"
    try:
        assert command.run(LAB, ["--mode=export", f"--workdir={folder.path}"]) == 0
        yield load_safetensors(path)
    finally:
        path.unlink()


def test_averaged_parameters_are_sampled_evaluated_and_exported(ours, capsys):
    folder = ours("--steps=8", "--ema_decay=0.5", "--learning_rate=0.1")
    with exported(folder) as (params, metadata):
        config = GPTConfig.from_flat(metadata["settings"])
        task = gpt.build_task(config, metadata["vocabulary"])
        like = initial_state(task, config, devices.data_parallel())
        with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
            state = jax.device_get(checkpoints.restore(like))
        chex.assert_trees_all_equal(params, state.ema_params)
        differing = [
            np.any(a != b)
            for a, b in zip(*map(jax.tree.leaves, (params, state.params)), strict=True)
        ]
        assert all(differing)


def test_profile_holds_a_trace_of_one_later_call(ours):
    folder = ours("--steps=8", "--profile")
    (trace,) = (folder.path / "profile").rglob("*.xplane.pb")
    assert b"run_steps" in trace.read_bytes()


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


def test_replayed_step_prints_its_loss_and_every_gradient(ours, capsys):
    folder = ours("--steps=6", "--log_every=1", "--dropout=0.2")
    before = folder.metrics.read_bytes()
    capsys.readouterr()
    ours("--steps=6", "--dropout=0.2", "--replay_step=6")
    figures = {
        name: float(value) for value, name in map(str.split, capsys.readouterr().out.splitlines())
    }
    logged = rows_of(folder, "train")[5]
    assert logged["step"] == 6
    assert figures.pop("loss") == pytest.approx(logged["loss"], rel=1e-4)
    assert all(value > 0 for value in figures.values())
    with exported(folder) as (params, _):
        sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        assert list(figures) == leaf_names(params)
    norm = math.sqrt(sum(size * rms**2 for size, rms in zip(sizes, figures.values(), strict=True)))
    assert norm == pytest.approx(logged["gradient_norm"], rel=1e-4)
    assert folder.metrics.read_bytes() == before


LETTERS = "abcdefghijklmnop"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A text of letters without any order: no honest model predicts it better than ln 16."""
    path = tmp_path_factory.mktemp("noise") / "noise.txt"
    path.write_text("".join(random.Random(1).choices(LETTERS, k=4000)))
    return path


def test_loss_collapses_without_the_mask_and_only_there(
    noise, tiny_flags, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = ["--width=32", "--ffn_width=32", "--positions=learned", "--dropout=0"]
    pace = ["--steps=400", "--batch_size=32", "--learning_rate=1e-2", "--checkpoint_every=1000"]
    flags = [*tiny_flags, *model, *pace, f"--dataset={noise}", "--eval_every=1000"]
    losses = {}
    for name, more in {"": [], "-unmasked": ["--demo_unmasked"]}.items():
        assert command.run(LAB, [*flags, *more]) == 0
        folder = RunFolder(f"runs/gpt-reference{name}")
        losses[name] = folder.read_summary()["metrics"]
    assert losses[""]["held_out_loss"] > 0.99 * math.log(len(LETTERS))
    assert losses[""]["train_loss"] > 0.8 * math.log(len(LETTERS))
    assert losses["-unmasked"]["train_loss"] < 0.2 * math.log(len(LETTERS))
    assert losses[""]["attention_future_weight"] == 0


# Of one size, so that they share what is compiled.
ALPHABETS = {
    "greek": "αβγδεζηθικλ ,\n",
    "chinese": "天地玄黄宇宙洪荒日月盈昃\r\n",
    "without a line end": "abcdefghijklmn",
}


@pytest.mark.parametrize("name", ALPHABETS)
def test_text_in_any_alphabet_trains_and_is_sampled_without_a_prompt(name, ours, tmp_path, capsys):
    alphabet, book = ALPHABETS[name], tmp_path / "book.txt"
    text = "".join(random.Random(0).choices(alphabet, k=600))
    book.write_bytes(text.encode())
    folder = ours(f"--dataset={book}", "--steps=4")
    capsys.readouterr()
    assert command.run(LAB, ["--mode=sample", f"--workdir={folder.path}"]) == 0
    drawn = capsys.readouterr().out.removesuffix("\n").split(RULE)
    assert len(drawn) == 3
    assert all(set(one) <= set(alphabet) for one in drawn)
    first = "\n" if "\n" in alphabet else "a"
    assert [one[0] for one in drawn] == [first] * 3
    assert [len(one) for one in drawn] == [9] * 3
    assert folder.read_summary()["metrics"]["sample_longest_copy"] >= 1


def test_spare_rows_of_the_vocabulary_are_never_sampled(ours, capsys, play):
    folder = ours("--vocabulary_size=256", "--steps=0")
    capsys.readouterr()
    flags = ["--temperature=5", "--num_samples=8", "--max_new_tokens=40", "--prompt=ROMEO:"]
    assert command.run(LAB, ["--mode=sample", f"--workdir={folder.path}", *flags]) == 0
    drawn = capsys.readouterr().out.removesuffix("\n").replace(RULE, "")
    assert len(drawn) == 8 * (len("ROMEO:") + 40)
    assert set(drawn) <= set(play.read_text())


def test_loss_on_a_markov_source_comes_near_its_entropy_rate(ours):
    model = ["--width=32", "--ffn_width=64", "--dropout=0", "--eval_batch_size=256"]
    pace = ["--steps=300", "--batch_size=64", "--eval_every=1000", "--checkpoint_every=1000"]
    rate = ["--learning_rate=1e-2", "--schedule=cosine"]
    folder = ours("--dataset=markov", *model, *pace, *rate)
    summary = folder.read_summary()
    entropy_rate = summary["baselines"]["entropy_rate"]
    assert summary["metrics"]["held_out_loss"] == pytest.approx(entropy_rate, rel=0.02)
    assert summary["baselines"]["unigram"] > 1.2 * entropy_rate  # so the mark means something


@pytest.mark.real_data
def test_tiny_shakespeare_is_found_and_is_comparable(ours, data_dir):
    flags = ["--dataset=tiny_shakespeare", f"--data_dir={data_dir}", "--context=128", "--steps=0"]
    folder = ours(*flags)
    dataset = folder.read_config()["dataset"]
    assert (dataset["characters"], dataset["distinct_characters"]) == (1_115_394, 65)
    for row in folder.read_summary()["compared"]:
        assert "other settings than the preset's" in row["why_not"]


def test_two_processes_train_and_report_what_one_does(ours, tiny_flags, tmp_path):
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
