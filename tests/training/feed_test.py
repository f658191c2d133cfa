"""Runs on host data equal those on device data: resuming, chunks, devices, replay, errors."""

import dataclasses
import re
import time
import types

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.batches import batch_at
from jaxlabs.data.host import HostExamples
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import feed, trainer
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.feed import Feed
from jaxlabs.training.lr_finder import range_test
from jaxlabs.training.replay import replay
from jaxlabs.training.trainer import Trainer


class Host:
    """The batches of a device data set, in numpy; it counts how often a step is read."""

    def __init__(self, dataset, fail_at=None, change_at=None):
        self.dataset, self.fail_at, self.change_at, self.steps = dataset, fail_at, change_at, []

    def batch_at(self, seed, step, batch_size):
        self.steps.append(step)
        if step == self.fail_at:
            raise OSError("disk\nfailed")
        batch = jax.device_get(batch_at(self.dataset, seed, step, batch_size))
        if step == self.change_at:
            batch["inputs"] = batch["inputs"][:, 1:]
        return batch


@pytest.fixture(autouse=True)
def small_stacks(monkeypatch):
    monkeypatch.setattr(feed, "MAX_STACKED", 5)
    monkeypatch.setattr(trainer, "CHUNK_SECONDS", 1e6)


@pytest.fixture(scope="module")
def start(make_task, make_data, make_config, make_placement):
    """`start(path, host=True, devices=1, **flags) -> (result, Host)`: a run of 12 steps."""

    def start(path, *, host=True, devices=1, fail_at=None, change_at=None, **flags):
        config, data, folder = (
            make_config(steps_per_call=100, **flags),
            make_data(),
            RunFolder(path),
        )
        source = Host(data.train, fail_at, change_at)
        if host:
            data = dataclasses.replace(data, train=source)
        folder.create()
        with Checkpoints(folder.checkpoints, 9) as checkpoints:
            trained = Trainer(
                make_task(dropout=0.2),
                data,
                config,
                make_placement(devices),
                folder,
                checkpoints,
                {"data_spec": {}},
            ).train()
        return trained, source

    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The unbroken run on the host data set."""
    return start(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def on_devices(start, tmp_path_factory):
    """The run on the device data set."""
    return start(tmp_path_factory.mktemp("devices"), host=False)[0].state


def test_host_data_train_as_device_data_and_each_batch_is_read_once(whole, on_devices):
    result, host = whole
    chex.assert_trees_all_close(result.state.params, on_devices.params, rtol=1e-6)
    assert host.steps == [*range(12)]


@pytest.mark.parametrize("step", [1, 4, 7])
def test_run_on_host_data_resumes_exactly(start, whole, tmp_path, monkeypatch, step):
    sync, reached = trainer.sync_hosts, []

    def stop(size, stopping):
        reached.append(0)
        return sync(1, stopping or len(reached) > step)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "sync_hosts", stop)
        broken, _ = start(tmp_path)
    assert broken.interrupted
    assert int(broken.state.step) == step
    result, host = start(tmp_path)
    chex.assert_trees_all_equal(result.state.opt_state, whole[0].state.opt_state)
    chex.assert_trees_all_equal(result.state.params, whole[0].state.params)
    assert host.steps == [*range(step, 12)]


def test_host_data_train_on_four_devices(start, on_devices, tmp_path):
    result, _ = start(tmp_path, devices=4)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(result.state)} == {4}
    host = jax.device_get(result.state.params)
    chex.assert_trees_all_close(host, jax.device_get(on_devices.params), rtol=1e-5, atol=1e-6)


def test_each_device_holds_its_share_of_every_batch(make_data, make_config, make_placement):
    data = Feed(Host(make_data().train), make_config(steps_per_call=100), make_placement(4))
    stack, end = data.at(6)
    assert end == 11
    inputs = stack.batches["inputs"]
    assert {shard.data.shape for shard in inputs.addressable_shards} == {(5, 2, 6)}
    expected = batch_at(make_data().train, 0, 8, 8)
    chex.assert_trees_all_equal(jax.device_get(stack.batch_at(0, 8, 8)), jax.device_get(expected))


def test_next_stack_is_read_while_the_steps_run(make_data, make_config, make_placement):
    host = Host(make_data().train)
    data = Feed(host, make_config(steps_per_call=100), make_placement())
    data.at(0)
    deadline = time.monotonic() + 30
    while len(host.steps) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert host.steps == [*range(10)]


def test_thread_has_the_jax_settings_of_the_run(make_data, make_config, make_placement):
    host = HostExamples([{"x": np.float32(i)} for i in range(50)])
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        data = Feed(host, make_config(steps_per_call=100), make_placement())
        data.at(0)
        stack, _ = data.at(5)  # from the thread
        expected = host.batch_at(0, 6, 8)
        np.testing.assert_array_equal(stack.batches["x"][1], expected["x"])
    assert (host.batch_at(0, 6, 8)["x"] != expected["x"]).any()


def test_stack_fits_into_its_share_of_memory(make_data, make_config, make_placement, monkeypatch):
    host, config = Host(make_data().train), make_config()
    size = sum(array.nbytes for array in host.batch_at(0, 0, config.batch_size).values())
    monkeypatch.setattr(feed, "MAX_STACK_BYTES", 3 * size)
    assert Feed(host, config, make_placement()).at(0)[1] == 3
    monkeypatch.setattr(feed, "MAX_STACK_BYTES", 1)
    assert Feed(host, config, make_placement()).at(0)[1] == 1


def test_error_in_the_thread_is_one_line_of_the_run(start, tmp_path):
    line = r"^training data: the batch after step 7: OSError: disk failed$"
    with pytest.raises(UserError, match=line):
        start(tmp_path, fail_at=7)
    result, _ = start(tmp_path)  # the checkpoint before it is there
    assert int(result.state.step) == 12
    assert RunFolder(tmp_path).read_metrics()[-1]["step"] == 12


def test_batch_of_another_shape_gives_one_line(start, tmp_path):
    line = "training data: inputs is int32[8,5] in the batch after step 6, int32[8,6] before"
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        start(tmp_path, change_at=6)


BATCH = {"x": np.zeros((8, 2)), "weights": np.ones(8), "example_index": np.arange(8)}


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        ({}, "weights is absent in the batch after step 0, expected [8, ...]"),
        (
            BATCH | {"x": np.zeros((3, 2))},
            "x is float32[3,2] in the batch after step 0, expected [8, ...]",
        ),
        (
            {name: BATCH[name] for name in ("x", "weights")},
            "example_index is absent in the batch after step 0, expected int32[8]",
        ),
        (
            BATCH | {"example_index": np.ones(8)},
            "example_index is float32[8] in the batch after step 0, expected int32[8]",
        ),
        (
            BATCH | {"weights": 1.0},
            "weights is float32[] in the batch after step 0, expected [8, ...]",
        ),
        (
            BATCH | {"x": ["a"] * 8},
            "the batch after step 0: TypeError: x is <U1, expected numbers",
        ),
        ([BATCH], "the batch after step 0 is list, expected a dict of arrays by name"),
    ],
    ids=["empty", "rows", "no index", "dtype of index", "no axis", "strings", "list"],
)
def test_batch_without_what_the_protocol_promises_gives_one_line(
    make_config, make_placement, batch, line
):
    host = types.SimpleNamespace(batch_at=lambda seed, step, batch_size: batch)
    with pytest.raises(UserError, match=f"^training data: {re.escape(line)}$"):
        Feed(host, make_config(), make_placement()).at(0)


def test_batch_that_the_protocol_promises_is_accepted(make_config, make_placement):
    host = types.SimpleNamespace(batch_at=lambda seed, step, batch_size: BATCH)
    stack, _ = Feed(host, make_config(), make_placement()).at(0)
    assert {str(array.dtype) for array in stack.batches.values()} == {"float32", "int32"}


def test_replay_and_range_test_read_host_data(
    start, make_task, make_data, make_config, make_placement, tmp_path
):
    start(tmp_path)
    task, config, placement = make_task(dropout=0.2), make_config(), make_placement()
    data = make_data()
    on_host = dataclasses.replace(data, train=Host(data.train))
    with Checkpoints(RunFolder(tmp_path).checkpoints, 9, read_only=True) as checkpoints:
        ours, theirs = (
            replay(task, one, config, placement, checkpoints, step=7) for one in (on_host, data)
        )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)
    ours, theirs = (range_test(task, one, config, placement, steps=14) for one in (on_host, data))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)


class Rows(Host):
    """A host data set that gives any rows of a batch; it keeps which ones were read."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.rows = set()

    def batch_at(self, seed, step, batch_size):
        raise AssertionError("a whole batch was read")

    def rows_at(self, seed, step, batch_size, start, stop):
        self.rows.add((start, stop))
        batch = super().batch_at(seed, step, batch_size)
        return {name: array[start:stop] for name, array in batch.items()}


def test_process_reads_only_the_rows_of_its_devices(
    make_data, make_config, make_placement, monkeypatch
):
    config, placement = make_config(steps_per_call=100), make_placement(4)
    whole = Feed(Host(make_data().train), config, placement).at(0)[0]
    rows = Rows(make_data().train)
    chex.assert_trees_all_equal(Feed(rows, config, placement).at(0)[0].batches, whole.batches)
    assert rows.rows == {(0, 8)}
    # As in the second of two processes, with two devices each.
    mine = placement.mesh.devices.flatten()[2:].tolist()
    sharding = type(placement.batch_sharding)
    indices = sharding.addressable_devices_indices_map

    def of_mine(self, shape):
        return {device: index for device, index in indices(self, shape).items() if device in mine}

    with monkeypatch.context() as patch:
        patch.setattr(sharding, "addressable_devices_indices_map", of_mine)
        second = Feed(rows := Rows(make_data().train), config, placement)
    assert second._rows == slice(4, 8)
    monkeypatch.setattr(jax, "make_array_from_callback", lambda shape, sharding, share: share)
    share = second.at(0)[0].batches["inputs"]
    assert rows.rows == {(4, 8)}
    everything = jax.device_get(whole.batches["inputs"])
    for start, stop in ((4, 6), (6, 8)):
        index = (slice(None), slice(start, stop), slice(None))
        np.testing.assert_array_equal(share(index), everything[index])


def test_stacks_are_equally_long_in_processes_that_read_other_shares(
    make_data, make_config, make_placement, monkeypatch
):
    config = make_config()
    size = sum(
        array.nbytes for array in Host(make_data().train).batch_at(0, 0, config.batch_size).values()
    )
    monkeypatch.setattr(feed, "MAX_STACK_BYTES", 3 * size)
    monkeypatch.setattr(feed, "_own_rows", lambda sharding, batch_size: slice(2, 4))
    monkeypatch.setattr(jax, "make_array_from_callback", lambda shape, sharding, share: shape)
    assert Feed(Rows(make_data().train), config, make_placement()).at(0)[1] == 3
