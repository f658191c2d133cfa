"""Tests of jaxlabs/training/replay.py: the replayed step equals that of the run."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.replay import replay
from jaxlabs.training.state import leaf_names
from jaxlabs.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(make_task, make_data, make_config, make_placement, tmp_path_factory):
    """A complete run with every step logged, and checkpoints of steps 4 and 8."""
    config = make_config(log_every=1, steps=8)
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.create()
    task, data, placement = make_task(dropout=0.2), make_data(), make_placement()
    with Checkpoints(folder.checkpoints, 2) as checkpoints:
        Trainer(task, data, config, placement, folder, checkpoints, {}).train()
    return task, data, config, placement, folder


def replayed(run, step, **changes):
    task, data, config, placement, folder = run
    task = changes.get("task", task)
    with Checkpoints(folder.checkpoints, 2, read_only=True) as checkpoints:
        return replay(task, data, config, placement, checkpoints, step)


@pytest.mark.parametrize("step", [1, 4, 5, 7])
def test_replayed_step_has_the_logged_loss_and_gradient_norm(run, step):
    task, _, config, placement, folder = run
    found = replayed(run, step)
    row = next(r for r in folder.read_metrics() if (r["step"], r["split"]) == (step, "train"))
    np.testing.assert_allclose(found.pop("loss"), row["loss"], rtol=1e-6)
    params = initial_state(task, config, placement).params
    assert list(found) == leaf_names(params)
    sizes = [leaf.size for leaf in map(np.asarray, flat(params))]
    norm = np.sqrt(sum(size * rms**2 for size, rms in zip(sizes, found.values(), strict=True)))
    np.testing.assert_allclose(norm, row["gradient_norm"], rtol=1e-5)


def flat(params):
    return [leaf for _, group in sorted(params.items()) for _, leaf in sorted(group.items())]


def test_non_finite_values_are_returned(run, make_task):
    found = replayed(run, 7, task=make_task(dropout=0.2, nonfinite_from=6))
    assert all(np.isnan(value) for value in found.values())


def test_step_after_the_end_of_a_stopped_run_is_refused(
    make_task, make_data, make_config, make_placement, tmp_path
):
    config = make_config(steps=100)
    with (
        Checkpoints(tmp_path / "none", 2) as checkpoints,
        pytest.raises(UserError, match=r"^replay_step: 50 .* the run stops at step 11 after"),
    ):
        replay(make_task(nonfinite_from=1), make_data(), config, make_placement(), checkpoints, 50)
