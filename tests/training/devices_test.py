"""Tests of jaxlabs/training/devices.py; hosts_test.py has several processes."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.training import devices


def test_data_parallel_uses_all_devices():
    placement = devices.data_parallel()
    assert list(placement.mesh.devices.flat) == jax.devices()
    assert dict(placement.mesh.shape) == {"data": jax.device_count(), "fsdp": 1, "tensor": 1}
    assert not placement.splits_state


def test_replicated_arrays_are_complete_on_every_device(make_placement):
    tree = make_placement(4).replicate({"a": np.arange(6), "b": (np.float32(2),)})
    for leaf, expected in ((tree["a"], np.arange(6)), (tree["b"][0], 2)):
        assert len(leaf.addressable_shards) == 4
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected)


def test_batches_are_sharded_along_the_first_axis_under_jit(make_placement):
    placement = make_placement(4)
    batch = {"inputs": np.arange(24).reshape(8, 3), "weights": np.ones(8)}
    split = jax.jit(placement.shard_batch)(batch)
    for name, leaf in split.items():
        assert leaf.sharding.is_equivalent_to(placement.batch_sharding, leaf.ndim)
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
        for number, shard in enumerate(shards):
            np.testing.assert_array_equal(shard.data, batch[name][2 * number : 2 * number + 2])


@pytest.mark.parametrize(("size", "grad_accum_steps"), [(4, 1), (8, 2), (12, 3)])
def test_batch_that_divides_is_accepted(make_placement, size, grad_accum_steps):
    make_placement(4).require_divides(size, grad_accum_steps, "batch_size")


@pytest.mark.parametrize(("size", "grad_accum_steps", "of"), [(2, 1, 4), (6, 1, 4), (12, 2, 8)])
def test_batch_that_does_not_divide_is_refused(make_placement, size, grad_accum_steps, of):
    with pytest.raises(UserError) as caught:
        make_placement(4).require_divides(size, grad_accum_steps, "batch_size")
    assert str(caught.value) == (
        f"batch_size: {size} does not divide over 4 devices x {grad_accum_steps} micro-batches;"
        f" a multiple of {of}"
    )


def test_batch_divides_over_data_and_fsdp_alone():
    placement = devices.mesh_sharding("fsdp:2,tensor:2", jax.devices()[:4])
    placement.require_divides(6, 3, "batch_size")
    with pytest.raises(UserError) as caught:
        placement.require_divides(6, 2, "batch_size")
    assert str(caught.value) == (
        "batch_size: 6 does not divide over data x fsdp = 2 x 2 micro-batches; a multiple of 4"
    )


def test_mesh_of_another_number_of_devices_is_refused():
    with pytest.raises(UserError) as caught:
        devices.mesh_sharding("data:2,tensor:4", jax.devices()[:4])
    assert str(caught.value) == (
        "mesh: 'data:2,tensor:4' needs 2 x 1 x 4 = 8 devices, but there are 4; sizes whose product"
        " is 4"
    )


def test_neighboring_devices_differ_along_tensor():
    mesh = devices.mesh_sharding("tensor:2,data:2", jax.devices()[:4]).mesh
    assert mesh.devices.tolist() == [[jax.devices()[:2]], [jax.devices()[2:4]]]


def test_host_copies_equal_the_replicated_arrays(make_placement):
    tree = {"a": np.arange(3), "b": np.ones((2, 2))}
    host = devices.to_host(make_placement(2).replicate(tree))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(host))
    jax.tree.map(np.testing.assert_array_equal, host, tree)


def test_host_copy_of_a_sharded_array_is_the_whole_array(make_placement):
    placement, array = make_placement(4), np.arange(24.0).reshape(8, 3)
    sharded = jax.device_put(array, placement.batch_sharding)
    assert sharded.addressable_data(0).shape == (2, 3)
    np.testing.assert_array_equal(devices.to_host({"a": sharded})["a"], array)


def test_sync_hosts_of_one_process_is_the_identity():
    assert devices.is_main_process()
    assert devices.sync_hosts(7, False) == (7, False)
    assert devices.sync_hosts(7, True) == (7, True)


def test_description_names_the_devices():
    described = devices.describe()
    assert described.pop("processor")
    assert described.pop("cores") == os.cpu_count()
    assert described == {
        "platform": jax.default_backend(),
        "kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": 1,
    }


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("cpu", "cpu"),
        ("tpu", "platform: 'tpu' is not available on this machine; cpu always is"),
    ],
)
def test_platform_is_the_requested_one_or_a_user_error(platform, expected):
    """In a subprocess, since a process has one platform."""
    if platform == "tpu" and jax.default_backend() == "tpu":
        pytest.skip("there is one here")
    script = (
        "import jax; from jaxlabs.config import UserError; from jaxlabs.training import devices\n"
        f"try: devices.start({platform!r}, None, 1, 0)\n"
        "except UserError as error: print(error)\n"
        "else: print(jax.default_backend())"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == expected + "\n"


@pytest.mark.parametrize(
    ("variables", "platform", "line"),
    [
        (
            {"JAX_PLATFORMS": "cuda"},
            "auto",
            "JAX_PLATFORMS: 'cuda' is not available on this machine; unset it, or set"
            " `platform` to cpu",
        ),
        (
            {"JAX_PLATFORMS": "", "JAX_PLATFORM_NAME": "rocm"},
            "auto",
            "JAX_PLATFORM_NAME: 'rocm' is not available on this machine; unset it, or set"
            " `platform` to cpu",
        ),
        (
            {"JAX_PLATFORMS": "cuda"},
            "gpu",
            "platform: 'gpu' is not available on this machine; cpu always is",
        ),
        (
            {},
            "auto",
            "platform: JAX finds no device (AssertionError: no plugin); cpu needs none",
        ),
    ],
)
def test_missing_platform_names_the_flag_or_variable(monkeypatch, variables, platform, line):
    def fail():
        raise AssertionError("no plugin")

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    for name in devices.PLATFORM_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        devices.start(platform)
    assert str(caught.value) == line


def test_flag_overrides_a_missing_platform_of_the_environment():
    script = (
        "from jaxlabs.training import devices\n"
        "for platform in ('auto', 'cpu'): print(devices.listed(platform))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"JAX_PLATFORMS": "none_such"},
        capture_output=True,
        text=True,
        check=True,
    )
    auto, cpu = done.stdout.splitlines()
    assert auto.startswith("JAX_PLATFORMS: 'none_such' is not available on this machine;")
    assert "cpu" in cpu.lower()
