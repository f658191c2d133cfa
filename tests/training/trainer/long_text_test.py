"""Runs on a long text: evaluations during training read a part of it, the last one all."""

import dataclasses

import numpy as np
import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training import evaluation
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.trainer import Trainer


@pytest.fixture(scope="module")
def long_data(make_data):
    """Data whose held-out set is a sample of ten windows of a long text."""
    return dataclasses.replace(
        make_data(), text_tokens={"held_out": 10**6}, token_bytes=np.ones(7, int)
    )


@pytest.fixture(scope="module")
def start_long(make_task, make_config, make_placement, long_data):
    """`start_long(path, devices=1, **flags) -> (result, folder)`: reads four windows at a time."""

    def start(path, *, devices=1, **flags):
        config, folder = make_config(**flags), RunFolder(path)
        folder.create()
        arguments = make_task(dropout=0.2), long_data, config, make_placement(devices), folder
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            trainer = Trainer(*arguments, checkpoints, {"data_spec": {}}, tokens_per_evaluation=24)
            return trainer.train(), folder

    return start


@pytest.fixture(scope="module")
def long_run(start_long, tmp_path_factory):
    return start_long(tmp_path_factory.mktemp("long"))


def rows_of(folder):
    return [row for row in folder.read_metrics() if row["split"] == "held_out"]


def test_evaluation_in_training_reads_a_part_and_the_last_one_all(
    long_run, long_data, make_task, make_config, make_placement
):
    result, folder = long_run
    whole = long_data.eval_sets["held_out"]
    part = whole.take(np.array([0, 3, 6, 9]))
    evaluate = Evaluator(make_task(dropout=0.2), make_placement(), make_config(), long_data)
    (last,) = (row for row in rows_of(folder) if row["step"] == 12)
    expected = evaluate(result.state, part)
    assert {name: last[name] for name in expected} == expected
    complete = evaluate(result.state, whole)
    assert result.final_metrics == {f"held_out_{name}": value for name, value in complete.items()}
    assert complete["loss"] != expected["loss"]
    scored = np.count_nonzero(whole.arrays["weights"])
    assert result.evaluated == {"held_out": {"tokens": scored, "of": 10**6}}


def test_every_row_has_the_standard_error(long_run):
    assert all(row["loss_stderr"] > 0 for row in rows_of(long_run[1]))


def test_several_devices_evaluate_the_same(long_run, start_long, tmp_path):
    result, folder = start_long(tmp_path, devices=4)
    for ours, theirs in zip(rows_of(folder), rows_of(long_run[1]), strict=True):
        for name in ("loss", "loss_stderr", "bits_per_byte"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)
    for name, value in long_run[0].final_metrics.items():
        np.testing.assert_allclose(result.final_metrics[name], value, rtol=1e-5)


class Killed(BaseException):
    """`kill -9`."""


@pytest.mark.parametrize("call", [3, 5, 8])
def test_run_killed_in_an_evaluation_resumes_exactly(
    start_long, long_run, tmp_path, monkeypatch, call, assert_same_run
):
    """In the first evaluation (after two batches to measure), in a later one, in the last one."""
    step, calls = Evaluator._step, []

    def killed(self, state, examples, index):
        calls.append(int(state.step))
        if len(calls) == call:
            raise Killed
        return step(self, state, examples, index)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Evaluator, "_step", killed)
        with pytest.raises(Killed):
            start_long(tmp_path)
    resumed = start_long(tmp_path)
    assert_same_run(resumed, long_run)
    assert resumed[0].final_metrics == long_run[0].final_metrics


def test_line_before_training_counts_what_is_read(start_long, tmp_path, capsys):
    start_long(tmp_path, steps=4)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("needs"))
    assert "evaluation: 2 x 24 tokens + 60 at the end, about " in line
    assert " on each device" in line
