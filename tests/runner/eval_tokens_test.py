"""--eval_tokens, and baselines that fail: commands on a bigram model of 300 letters."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.data import windows
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.cross_entropy import cross_entropy_output
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.lab import Lab
from jaxlabs.training.run_config import TextRunConfig
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task

CONTEXT, HELD_OUT = 16, 299
TOKENS = np.random.default_rng(0).integers(0, 8, 3000).astype(np.uint8)


def load_data(config):
    held_out = TOKENS[-HELD_OUT - 1 :]
    return DataModule(
        train=windows.token_stream(TOKENS, CONTEXT),
        eval_sets={
            "held_out": windows.consecutive_windows(held_out, CONTEXT, config.eval_tokens),
            "train_windows": windows.evenly_spaced_windows(TOKENS, CONTEXT, 8),
        },
        final_eval_sets=lambda: {
            "sliding_window": windows.sliding_windows(held_out, CONTEXT, 2, config.eval_tokens)
        },
        dataset={"name": "letters", "source": "random", "sha256": "0"},
        text_tokens=dict.fromkeys(("held_out", "sliding_window"), HELD_OUT),
    )


def loss(model, variables, batch, key, **_):
    logits = model.apply(variables, batch["inputs"])
    return cross_entropy_output(logits, batch["targets"], batch["weights"])


model = nn.Embed(8, 8)
task = Task(
    model,
    lambda key: model.init(key, jnp.zeros((1, 1), jnp.int32)),
    loss,
    build_train_step(loss),
)
LAB = Lab(
    name="bigram",
    description="Bigrams.",
    config_class=TextRunConfig,
    presets={"quick": {"steps": 4, "batch_size": 4, "eval_batch_size": 4}},
    load_data=load_data,
    build_task=lambda config, data_spec: task,
)
SAMPLED = ["--platform=cpu", "--eval_tokens=80"]


@pytest.fixture(scope="module")
def sampled_run(tmp_path_factory):
    """The folder of a run whose evaluation reads five windows of the held-out text."""
    path = tmp_path_factory.mktemp("sampled") / "run"
    assert cli.run(LAB, [*SAMPLED, f"--workdir={path}"]) == 0
    return path


def held_out_rows(folder):
    return [row for row in folder.read_metrics() if row["split"] == "held_out"]


def test_run_stores_what_its_evaluations_read(sampled_run):
    folder = RunFolder(sampled_run)
    # 3/10 of 4 steps of 4 windows, in two evaluations, are less than a batch.
    assert folder.read_config()["tuned"]["tokens_per_evaluation"] == 4 * CONTEXT
    summary = folder.read_summary()
    assert summary["evaluated"] == {
        "held_out": {"tokens": 80, "of": HELD_OUT},
        "sliding_window": {"tokens": 10, "of": HELD_OUT},
    }
    assert held_out_rows(folder)[-1]["loss"] != summary["metrics"]["held_out_loss"]
    assert summary["metrics"]["held_out_loss_stderr"] > 0


def test_resumed_run_reads_what_it_read_before(sampled_run, monkeypatch):
    seen = []
    monkeypatch.setattr(modes, "_complete_steps", lambda context, _: seen.append(context) or 4)
    stored = RunFolder(sampled_run).read_config()
    flags = [*SAMPLED, "--eval_every=1", "--eval_batch_size=4", f"--workdir={sampled_run}"]
    changed = {"tuned": stored["tuned"] | {"tokens_per_evaluation": 48}}
    RunFolder(sampled_run).write_config(stored | changed)
    assert cli.run(LAB, flags) == 0
    assert seen[0].tokens_per_evaluation == 48
    RunFolder(sampled_run).write_config(stored)


def evaluated(path, capsys, *flags):
    """Returns the metrics that `--mode=evaluate` prints."""
    capsys.readouterr()
    assert cli.run(LAB, ["--mode=evaluate", f"--workdir={path}", *flags]) == 0
    return dict(line.split() for line in capsys.readouterr().out.splitlines())


def test_mode_evaluate_may_read_more(sampled_run, capsys):
    summary = RunFolder(sampled_run).read_summary()["metrics"]
    sample = evaluated(sampled_run, capsys)
    assert sample["held_out_loss"] == f"{summary['held_out_loss']:.4f}"
    assert sample["sliding_window_loss"] == f"{summary['sliding_window_loss']:.4f}"
    whole = evaluated(sampled_run, capsys, f"--eval_tokens={HELD_OUT}")
    assert whole["held_out_loss"] == whole["sliding_window_loss"] != sample["held_out_loss"]


def test_other_modes_and_another_value_are_refused(sampled_run, capsys):
    def refused(*flags):
        capsys.readouterr()
        assert cli.run(LAB, flags) == 2
        return capsys.readouterr().err

    run = f"--workdir={sampled_run}"
    line = refused("--mode=export", "--eval_tokens=99", run)
    assert line.startswith("bigram: --eval_tokens: 99 differs from 80 of the run in ")
    assert "different settings: eval_tokens (stored 80, given None);" in refused(run)
    line = refused("--eval_tokens=15", "--workdir=other")
    assert line == ("bigram: --eval_tokens: 15 is not accepted; at least one window, 16 tokens\n")


def test_failing_baselines_cost_no_summary_and_a_small_text_is_read_as_a_whole(here, capsys):
    def fail():
        assert not list((here / "run" / "checkpoints").iterdir())  # before training
        raise MemoryError("Unable to allocate 9.1 TiB")

    data = dataclasses.replace(load_data(TextRunConfig()), baselines=fail)
    lab = dataclasses.replace(LAB, load_data=lambda config: data)
    assert cli.run(lab, ["--platform=cpu", "--workdir=run"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "baselines" in line]
    reason = "MemoryError: Unable to allocate 9.1 TiB"
    assert lines == [f"baselines: {reason}; the report will have none"]
    folder = RunFolder(here / "run")
    summary = folder.read_summary()
    assert summary["baselines"] == {}
    assert summary["evaluated"]["held_out"] == {"tokens": HELD_OUT, "of": HELD_OUT}
    assert "tokens_per_evaluation" not in folder.read_config()["tuned"]
    assert summary["metrics"]["held_out_loss"] == held_out_rows(folder)[-1]["loss"]
    assert "Final metrics" in folder.report.read_text()
