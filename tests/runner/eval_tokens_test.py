"""--eval_tokens, and baselines that fail."""

import pytest

from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes

pytestmark = pytest.mark.usefixtures("reused_executables")

HELD_OUT = 266
"""Held-out targets of the text of `tiny_flags`."""


@pytest.fixture(scope="module")
def sampled_run(tiny_flags, reused_executables, tmp_path_factory):
    """The folder of a run whose evaluation reads five windows of the held-out text."""
    path = tmp_path_factory.mktemp("sampled") / "run"
    flags = ["--steps=4", "--eval_batch_size=4", "--eval_tokens=80", f"--workdir={path}"]
    assert cli.run(gpt.LAB, [*tiny_flags, *flags]) == 0
    return path


def test_run_stores_what_its_evaluations_read(sampled_run):
    folder = RunFolder(sampled_run)
    # 3/10 of 4 steps of 4 x 16 tokens, in two evaluations, are less than a batch.
    assert folder.read_config()["tuned"]["tokens_per_evaluation"] == 4 * 16
    summary = folder.read_summary()
    assert summary["evaluated"] == {
        "held_out": {"tokens": 80, "of": HELD_OUT},
        "sliding_window": {"tokens": 10, "of": HELD_OUT},
    }
    (last,) = (
        row for row in folder.read_metrics() if (row["step"], row["split"]) == (4, "held_out")
    )
    assert last["loss"] != summary["metrics"]["held_out_loss"]
    assert summary["metrics"]["held_out_loss_stderr"] > 0


def test_resumed_run_reads_what_it_read_before(sampled_run, tiny_flags, monkeypatch):
    stored = RunFolder(sampled_run).read_config()
    seen = []
    monkeypatch.setattr(modes, "_complete_steps", lambda context, _: seen.append(context) or 4)
    flags = ["--steps=4", "--eval_batch_size=4", "--eval_tokens=80", "--eval_every=1"]
    assert cli.run(gpt.LAB, [*tiny_flags, *flags, f"--workdir={sampled_run}"]) == 0
    assert seen[0].tokens_per_evaluation == stored["tuned"]["tokens_per_evaluation"] == 64


def test_mode_evaluate_may_read_more(sampled_run, trained, capsys):
    printed = {}
    for tokens in (80, HELD_OUT):
        flags = ["--mode=evaluate", f"--workdir={sampled_run}", f"--eval_tokens={tokens}"]
        assert cli.run(gpt.LAB, flags) == 0
        printed[tokens] = dict(line.split() for line in capsys.readouterr().out.splitlines())
    summary = RunFolder(sampled_run).read_summary()["metrics"]
    assert printed[80]["held_out/loss"] == f"{summary['held_out_loss']:.4f}"
    whole = RunFolder(trained).read_summary()["metrics"]  # the same run, evaluated as a whole
    assert printed[HELD_OUT]["held_out/loss"] == f"{whole['held_out_loss']:.4f}"
    assert printed[HELD_OUT]["sliding_window/loss"] == f"{whole['sliding_window_loss']:.4f}"


def test_other_modes_and_another_value_are_refused(sampled_run, tiny_flags, refused):
    line = refused("--mode=sample", "--eval_tokens=99", f"--workdir={sampled_run}")
    assert line.startswith("--eval_tokens: 99 differs from 80 of the run in ")
    flags = ["--steps=4", "--eval_batch_size=4", f"--workdir={sampled_run}"]
    line = refused(*tiny_flags, *flags)
    assert "has different settings: eval_tokens (stored 80, given None);" in line
    line = refused(*tiny_flags, "--eval_tokens=15", "--workdir=other")
    assert line == "--eval_tokens: 15 is not accepted; at least one window, 16 tokens"


def test_run_on_a_small_text_is_evaluated_as_a_whole(trained):
    folder = RunFolder(trained)
    assert "tokens_per_evaluation" not in folder.read_config()["tuned"]
    assert folder.read_summary()["evaluated"]["held_out"] == {"tokens": HELD_OUT, "of": HELD_OUT}


def test_failing_baselines_cost_no_summary(tiny_flags, here, monkeypatch, capsys):
    def fail(*_):
        assert not list((here / "run" / "checkpoints").iterdir())  # before training
        raise MemoryError("Unable to allocate 9.1 TiB")

    monkeypatch.setattr(gpt, "ngram_baselines", fail)
    assert cli.run(gpt.LAB, [*tiny_flags, "--steps=4", "--workdir=run"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "baselines" in line]
    reason = "MemoryError: Unable to allocate 9.1 TiB"
    assert lines == [f"baselines: {reason}; the report will have none"]
    folder = RunFolder(here / "run")
    assert folder.read_summary()["baselines"] == {}
    assert "Final metrics" in folder.report.read_text()
