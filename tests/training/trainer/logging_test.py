"""What a run logs, and its callbacks."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.training.checkpoints import Checkpoints


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
        *(
            (
                lambda *_, name=name: {name: 0.0},
                f"^<lambda>: the callback returns '{name}', the name of another value; a name that",
            )
            for name in ("loss", "step", "split", "seconds")
        ),
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


def test_run_without_steps_only_evaluates(resume):
    result, folder = resume(steps=0, warmup_steps=0)
    assert int(result.state.step) == 0
    assert [(row["step"], row["split"]) for row in folder.read_metrics()] == [(0, "held_out")]


def test_best_checkpoint_is_kept_beside_the_latest(resume):
    _, folder = resume(learning_rate=3.0, lr_schedule="constant", keep_checkpoints=1, steps=16)
    losses = {row["step"]: row["loss"] for row in folder.read_metrics() if row["split"] != "train"}
    del losses[0]  # evaluated, but nothing to save yet
    with Checkpoints(folder.checkpoints, 1, read_only=True) as checkpoints:
        assert checkpoints.steps() == sorted({min(losses, key=losses.get), 16})
