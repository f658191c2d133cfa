"""Non-finite steps: skipped, logged, and never in a checkpoint."""

import jax
import numpy as np
import pytest

from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.trainer import NonFiniteError


def test_ten_non_finite_steps_stop_the_run_without_a_checkpoint(resume, make_task, capsys):
    task = make_task(nonfinite_from=5)
    with pytest.raises(NonFiniteError) as caught:
        resume(task=task, steps=100, checkpoint_every=100, eval_every=100)
    assert str(caught.value) == (
        "--learning_rate=0.01: loss, gradient or update not finite in 10 consecutive steps up to"
        " step 15 (last block.bias); no checkpoint saved. Try lower values, or inspect with"
        " --mode=replay --replay_step=15"
    )
    assert "step 6 skipped: block.bias is not finite\n" in capsys.readouterr().err


def test_checkpoint_before_non_finite_steps_is_kept(resume, make_task, arrays):
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
