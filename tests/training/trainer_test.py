"""Tests of jaxlabs/training/trainer.py: interruptions and chunks do not change the result."""

import dataclasses
import functools
import signal

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import capacity, signals, trainer
from jaxlabs.training.advance import step_inputs
from jaxlabs.training.capacity import TooLarge
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.matmul_flops import matmul_flops
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import leaf_names
from jaxlabs.training.trainer import NonFiniteError, Trainer

TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture(scope="module")
def start(make_task, make_data, make_config, make_placement):
    """`start(path, ...) -> (result, folder)`: trains in a run folder."""

    def start(path, *, task=None, devices=1, sample=None, callbacks=(), **flags):
        config = make_config(**flags)
        folder = RunFolder(path)
        folder.create()
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            result = Trainer(
                task or make_task(dropout=0.2),
                make_data(),
                config,
                make_placement(devices),
                folder,
                checkpoints,
                {"data_spec": {}},
                sample,
                callbacks,
            ).train()
        return result, folder

    return start


@pytest.fixture(autouse=True)
def chunks_of_maximum_size(monkeypatch):
    """Chunks grow to their maximum size on any machine, so that their boundaries are known."""
    monkeypatch.setattr(trainer, "CHUNK_SECONDS", 1e6)


@pytest.fixture
def resume(start, tmp_path):
    """`resume(...)`: the same in the folder of the test, which all its calls share."""
    return functools.partial(start, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """An unbroken run of 12 steps."""
    return start(tmp_path_factory.mktemp("whole"))


def rows_without_time(folder):
    return [
        {name: value for name, value in row.items() if name not in TIME_FIELDS}
        for row in folder.read_metrics()
    ]


def arrays(state):
    """Returns the arrays of a checkpoint by name."""
    return dict(zip(leaf_names(state), jax.device_get(jax.tree.leaves(state)), strict=True))


def assert_same_run(ours, theirs):
    (result, folder), (expected, other_folder) = ours, theirs
    chex.assert_trees_all_equal(arrays(result.state), arrays(expected.state))
    assert rows_without_time(folder) == rows_without_time(other_folder)


def test_flops_per_step_are_those_of_the_training_step(whole, make_task, make_data, make_config):
    result, _ = whole
    batch, key = step_inputs(make_data().train, 0, 0, make_config().batch_size)
    train_step = make_task(dropout=0.2).train_step
    counted = matmul_flops(lambda *arguments: train_step(*arguments), result.state, batch, key)
    assert result.flops_per_step == counted > 0


class StopBefore:
    """A stop request before the n-th chunk."""

    def __init__(self, monkeypatch, call):
        self.calls, self.call = 0, call
        original = trainer.sync_hosts
        sync = lambda size, stop: original(*self.at(size, stop))  # noqa: E731
        monkeypatch.setattr(trainer, "sync_hosts", sync)

    def at(self, size, stop):
        self.calls += 1
        return size, stop or self.calls == self.call


# Chunks of at most three steps, evaluations every four.
@pytest.mark.parametrize(("call", "step"), [(1, 0), (2, 1), (3, 4), (4, 7), (6, 11)])
def test_run_interrupted_anywhere_equals_an_unbroken_one(resume, whole, monkeypatch, call, step):
    stop = StopBefore(monkeypatch, call)
    interrupted, folder = resume()
    assert interrupted.interrupted
    assert int(interrupted.state.step) == step
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == step
    stop.call = 0
    resumed = resume()
    assert not resumed[0].interrupted
    assert int(resumed[0].state.step) == 12
    assert_same_run(resumed, whole)


# AdamW above, L-BFGS in full_batch_test.py.
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion", "muon"])
def test_run_of_every_optimizer_resumes_exactly(start, tmp_path, monkeypatch, optimizer):
    flags = {"optimizer": optimizer, "momentum": 0.9, "steps": 8}
    unbroken = start(tmp_path / "unbroken", **flags)
    stop = StopBefore(monkeypatch, 3)
    assert start(tmp_path / "broken", **flags)[0].interrupted
    stop.call = 0
    assert_same_run(start(tmp_path / "broken", **flags), unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_with_a_checkpoint_and_restores_the_handlers(resume, whole, number):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    def sample(state):
        if int(state.step) == 8 and not sample.sent:
            sample.sent = True
            signal.raise_signal(number)
        return f"at {int(state.step)}"

    sample.sent = False
    result, folder = resume(sample=sample)
    assert result.interrupted
    assert int(result.state.step) == 8
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    resumed = resume(sample=sample)
    assert_same_run(resumed, whole)
    texts = {path.name: path.read_text() for path in folder.samples.iterdir()}
    assert texts == {f"step-{step:06d}.txt": f"at {step}" for step in (0, 4, 8, 12)}


def test_signal_in_the_last_evaluation_skips_the_final_ones(resume, whole):
    def sample(state):
        if int(state.step) == 12 and not sample.sent:
            sample.sent = True
            signal.raise_signal(signal.SIGTERM)
        return f"at {int(state.step)}"

    sample.sent = False
    result, folder = resume(sample=sample)
    assert result.interrupted
    assert int(result.state.step) == 12
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 12
    assert_same_run(resume(sample=sample), whole)


def test_signal_in_the_evaluation_at_step_0_is_raised(resume, whole):
    def sample(state):
        if not sample.sent:
            sample.sent = True
            signal.raise_signal(signal.SIGTERM)
        return ""

    sample.sent = False
    with pytest.raises(Interrupted), signals.listening():
        resume(sample=sample)
    assert_same_run(resume(sample=sample), whole)


def test_killed_run_resumes_from_its_checkpoint(resume, whole):
    """`kill -9` between two checkpoints: later rows are removed and written again."""

    class Killed(BaseException):
        pass

    def sample(state):
        if int(state.step) == 8:
            raise Killed
        return ""

    with pytest.raises(Killed):
        resume(sample=sample, checkpoint_every=5)
    assert_same_run(resume(), whole)


@pytest.mark.parametrize("steps_per_call", [1, 100])
def test_result_does_not_depend_on_the_chunk_size(resume, whole, steps_per_call):
    assert_same_run(resume(steps_per_call=steps_per_call), whole)


def test_four_devices_equal_one(resume, whole):
    (ours, folder), (theirs, other_folder) = resume(devices=4), whole
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(ours.state)} == {4}
    chex.assert_trees_all_close(arrays(ours.state), arrays(theirs.state), rtol=1e-5, atol=1e-6)
    for row, other in zip(folder.read_metrics(), other_folder.read_metrics(), strict=True):
        np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-6)


def test_loop_compiles_once_for_chunks_of_different_sizes(resume, make_task, monkeypatch):
    task, traces, counts, train_chunk = make_task(), [], [], Trainer.train_chunk

    def train_step(*arguments):
        traces.append(1)
        return task.train_step(*arguments)

    def counted(self, state, until):
        counts.append(until - int(state.step))
        return train_chunk(self, state, until)

    monkeypatch.setattr(Trainer, "train_chunk", counted)
    resume(task=dataclasses.replace(task, train_step=train_step), steps=11)
    assert sum(counts) == 11
    assert len(set(counts)) > 1
    assert len(traces) == 2  # once for the shapes of the log, once for the executable


def test_step_that_does_not_fit_into_memory_is_refused_before_the_first_evaluation(
    resume, monkeypatch
):
    result, folder = resume(steps=0, warmup_steps=0)
    folder.metrics.unlink()
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(result.state))
    # The state fits, but not the training data beside it.
    monkeypatch.setattr(capacity, "host_memory", lambda: jax.local_device_count() * state)
    with pytest.raises(TooLarge, match=r"^a training step needs"):
        resume()
    assert folder.read_metrics() == []


def test_compilation_is_no_training_time(resume):
    result, folder = resume(steps=4)
    (row,) = (row for row in folder.read_metrics() if row["step"] == 0)
    assert row["seconds"] == 0
    assert 0 < result.seconds < result.compile_seconds


def test_callbacks_get_the_metrics_and_their_own_are_logged(start, tmp_path):
    seen = []

    def norm(step, state, metrics):
        seen.append((step, int(state.step), metrics["held_out_loss"]))
        return {"embedding_norm": np.linalg.norm(state.params["embedding"]["embedding"])}

    result, folder = start(tmp_path, callbacks=[norm, lambda *_: None])
    rows = [row for row in folder.read_metrics() if row["split"] == "held_out"]
    assert seen == [(row["step"], row["step"], row["loss"]) for row in rows]
    expected = np.linalg.norm(result.state.params["embedding"]["embedding"])
    np.testing.assert_allclose(rows[-1]["embedding_norm"], expected, rtol=1e-6)


def failing(step, state, metrics):
    return {"ratio": 1 / (step - 4)}


@pytest.mark.parametrize(
    ("callback", "line"),
    [
        (failing, r"^failing: the callback failed at step 4: ZeroDivisionError: .*, line \d+\)$"),
        (lambda *_: {"loss": 0.0}, r"^<lambda>: the callback returns 'loss', which is there$"),
        (lambda *_: {"step": 7}, r"^<lambda>: the callback returns 'step', which is there$"),
        (lambda *_: {"split": 7}, r"^<lambda>: the callback returns 'split', which is there$"),
        (lambda *_: {"seconds": 7}, r"^<lambda>: the callback returns 'seconds', which is there$"),
    ],
)
def test_failing_callback_names_itself_in_one_line(start, tmp_path, callback, line):
    with pytest.raises(UserError, match=line):
        start(tmp_path, callbacks=[callback])


def test_rows_are_logged_at_multiples_of_the_interval_and_after_evaluations(resume):
    result, folder = resume(log_every=3, eval_every=4, steps=10)
    assert int(result.state.step) == 10
    steps = {
        split: [row["step"] for row in folder.read_metrics() if row["split"] == split]
        for split in ("train", "held_out")
    }
    assert steps == {"train": [3, 6, 9], "held_out": [0, 4, 8, 10]}
    for row in folder.read_metrics():
        if row["split"] == "train":
            assert {"loss", "accuracy", "weight", "gradient_norm", "learning_rate"} < row.keys()


def test_logged_learning_rate_is_that_of_the_step(resume):
    _, folder = resume(
        log_every=1, warmup_steps=3, lr_schedule="linear", learning_rate=0.5, steps=6
    )
    rates = [row["learning_rate"] for row in folder.read_metrics() if row["split"] == "train"]
    np.testing.assert_allclose(rates, 0.5 * np.array([1 / 4, 2 / 4, 3 / 4, 1, 2 / 3, 1 / 3]), 1e-6)


def test_seconds_accumulate_after_a_resume(resume, monkeypatch):
    stop = StopBefore(monkeypatch, 4)
    first, _ = resume()
    stop.call = 0
    second, folder = resume()
    seconds = [row["seconds"] for row in folder.read_metrics() if "seconds" in row]
    assert seconds == sorted(seconds)
    assert second.seconds > first.seconds > 0


def test_complete_run_takes_no_further_step(resume):
    first, folder = resume()
    rows = folder.metrics.read_text()
    again, _ = resume()
    chex.assert_trees_all_equal(arrays(again.state), arrays(first.state))
    assert folder.metrics.read_text() == rows


def test_run_without_steps_only_evaluates(resume):
    result, folder = resume(steps=0, warmup_steps=0)
    assert int(result.state.step) == 0
    assert [(row["step"], row["split"]) for row in folder.read_metrics()] == [(0, "held_out")]


def test_ten_non_finite_steps_stop_the_run_without_a_checkpoint(
    resume, make_task, capsys, tmp_path
):
    task = make_task(nonfinite_from=5)
    with pytest.raises(NonFiniteError) as caught:
        resume(task=task, steps=100, checkpoint_every=100, eval_every=100)
    assert str(caught.value) == (
        "--learning_rate=0.01: loss, gradient or update not finite in 10 consecutive steps up to"
        " step 15 (last block.bias); no checkpoint saved. Try lower values, or inspect with"
        " --mode=replay --replay_step=15"
    )
    assert "step 6 skipped: block.bias is not finite\n" in capsys.readouterr().err


def test_checkpoint_before_non_finite_steps_is_kept(
    resume, make_task, make_state, make_config, make_placement
):
    flags = {"steps": 40, "checkpoint_every": 5, "keep_checkpoints": 9}
    with pytest.raises(NonFiniteError):
        resume(task=make_task(nonfinite_from=7), **flags)
    result, folder = resume(task=make_task(), **flags)  # without the cause
    with Checkpoints(folder.checkpoints, 9, read_only=True) as checkpoints:
        assert checkpoints.steps() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert int(result.state.skipped) == 0
    assert all(np.isfinite(leaf).all() for leaf in arrays(result.state).values())


def test_no_checkpoint_while_steps_are_skipped_and_the_line_names_the_last_one(resume, make_task):
    with pytest.raises(NonFiniteError, match="; last checkpoint: step 6"):
        resume(task=make_task(nonfinite_from=7), steps=40, checkpoint_every=2, keep_checkpoints=9)
    _, folder = resume(task=make_task(), steps=6, checkpoint_every=2, keep_checkpoints=9)
    with Checkpoints(folder.checkpoints, 9, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 6]
        for step in checkpoints.steps():
            assert checkpoints.read_metadata(step)["loss"] is None or step == 4


def test_run_that_ends_in_a_skipped_step_is_saved_without_a_loss(resume, make_task):
    result, folder = resume(task=make_task(nonfinite_from=11))
    assert int(result.state.skipped) == 1
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 12
        assert checkpoints.read_metadata(12)["loss"] is None
        assert checkpoints.read_metadata(8)["loss"] > 0


def test_skipped_steps_are_always_logged_and_keep_the_parameters(resume, make_task):
    result, folder = resume(task=make_task(nonfinite_from=9), log_every=100, checkpoint_every=100)
    rows = [row for row in folder.read_metrics() if row["split"] == "train"]
    assert [(row["step"], row["skipped"], row["loss"]) for row in rows] == [
        (step, 1.0, None) for step in (10, 11, 12)
    ]
    assert int(result.state.skipped) == 3
    finite = jax.tree.map(lambda leaf: bool(np.isfinite(leaf).all()), result.state.params)
    assert all(jax.tree.leaves(finite))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"batch_size": 6},
            "batch_size: 6 does not divide over 4 devices x 1 micro-batches; a multiple of 4",
        ),
        (
            {"batch_size": 12, "grad_accum_steps": 2},
            "batch_size: 12 does not divide over 4 devices x 2 micro-batches; a multiple of 8",
        ),
        (
            {"eval_batch_size": 2},
            "eval_batch_size: 2 does not divide over 4 devices x 1 micro-batches; a multiple of 4",
        ),
    ],
)
def test_batch_that_does_not_divide_gives_one_line(resume, flags, message):
    with pytest.raises(UserError) as caught:
        resume(devices=4, **flags)
    assert str(caught.value) == message


def test_best_checkpoint_is_kept_beside_the_latest(resume):
    _, folder = resume(learning_rate=3.0, lr_schedule="constant", keep_checkpoints=1, steps=16)
    losses = {row["step"]: row["loss"] for row in folder.read_metrics() if row["split"] != "train"}
    del losses[0]  # evaluated, but nothing to save yet
    with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
        assert checkpoints.steps() == sorted({min(losses, key=losses.get), 16})
