"""Runs of the toy task in a run folder."""

import functools

import chex
import jax
import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training import trainer
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.state import leaf_names
from jaxlabs.training.trainer import Trainer

TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture(scope="module")
def start(make_task, make_data, make_config, make_placement):
    """`start(path, ...) -> (result, folder)`: trains in a run folder."""

    def start(path, *, task=None, devices=1, mesh=None, sample=None, callbacks=(), **flags):
        config = make_config(**flags)
        folder = RunFolder(path)
        folder.create()
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            result = Trainer(
                task or make_task(dropout=0.2),
                make_data(),
                config,
                make_placement(devices, mesh),
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


@pytest.fixture(scope="session")
def arrays():
    """`arrays(state)`: the arrays of a checkpoint by name."""

    def arrays(state):
        return dict(zip(leaf_names(state), jax.device_get(jax.tree.leaves(state)), strict=True))

    return arrays


@pytest.fixture(scope="session")
def assert_same_run(arrays):
    """`assert_same_run(ours, theirs)`: both have the same bits and rows, apart from times."""

    def check(ours, theirs):
        (result, folder), (expected, other_folder) = ours, theirs
        chex.assert_trees_all_equal(arrays(result.state), arrays(expected.state))
        assert rows_without_time(folder) == rows_without_time(other_folder)

    return check
