"""Platforms, meshes, shardings and processes."""

import dataclasses
import math
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.training import hosts, sharding
from jaxlabs.training.state import TrainState

PLATFORM_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE")
"""Environment variables that select JAX's platform."""


def start(
    platform: str,
    coordinator: str | None = None,
    num_processes: int | None = 1,
    process_id: int = 0,
) -> None:
    """Selects the platform and joins the other processes; call it before creating any array.

    The arguments are those of `hosts.join`.

    Raises:
      UserError: the platform is not available, or the processes could not connect.
    """
    if platform != "auto":
        # The flag overrides the environment.
        jax.config.update("jax_platforms", platform)
        jax.config.update("jax_platform_name", "")
        jax.config.update("jax_default_device", None)
    hosts.join(coordinator, num_processes, process_id, platform=platform)
    _require_devices(platform)
    hosts.connected()


def _require_devices(platform: str) -> None:
    """Raises UserError, with the flag or variable that selects the platform, if it is missing."""
    try:
        jax.devices()
        jax.numpy.zeros(())  # on the default device, which need not be listed
    except Exception as error:  # the type depends on platform and version
        variables = [name for name in PLATFORM_VARIABLES if os.environ.get(name)]
        if platform != "auto":
            message = f"{platform!r} is not available on this machine; cpu always is"
        elif variables:
            found = ", ".join(f"{name}: {os.environ[name]!r}" for name in variables)
            accepted = "unset it, or set `platform` to cpu"
            raise UserError(f"{found} is not available on this machine; {accepted}") from None
        else:
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f"JAX finds no device ({cause}); cpu needs none"
        raise ArgumentError("platform", message) from None
    if platform not in ("auto", jax.default_backend()):
        raise ArgumentError(
            "platform",
            f"{platform!r} is not accepted, since JAX has started on"
            f" {jax.default_backend()} in this process; that one, or another process",
        )


def listed(platform: str) -> str:
    """Returns the names of the devices of a platform, or one line with the reason for none."""
    try:
        start(platform)
    except UserError as error:
        return str(error)
    return ", ".join(map(str, jax.devices()))


@dataclasses.dataclass(frozen=True)
class MeshSharding:
    """Shardings over a mesh with the axes of `training.sharding`: of states, batches and data.

    The axes are `Auto`: the compiler inserts the collectives, and the training step does not depend
    on the mesh (linen's `Embed` does not support explicit axes).
    """

    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of replicated arrays."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of batches, along the first axis."""
        return NamedSharding(self.mesh, PartitionSpec(sharding.BATCH_AXES))

    @property
    def batch_parts(self) -> int:
        """The number of parts that a batch is split into."""
        return math.prod(self.mesh.shape[axis] for axis in sharding.BATCH_AXES)

    @property
    def splits_state(self) -> bool:
        """Whether parameters and optimizer state are split, not replicated."""
        return self.batch_parts < self.mesh.size or self.mesh.shape[sharding.FSDP] > 1

    def state_shardings(self, state: Any) -> Any:
        """Returns the sharding of every leaf of a `TrainState`, or of its shapes, as such a tree.

        See `training.sharding.partition_spec`.
        """

        def leaf_sharding(path: Any, leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return self.leaf_sharding(name, leaf.shape)

        return jax.tree_util.tree_map_with_path(leaf_sharding, state)

    def leaf_sharding(self, name: str, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of the leaf of a `TrainState` with a dotted name."""
        return sharding.leaf_sharding(name, shape, self.mesh)

    def shard_batch(self, batch: Any) -> Any:
        """Constrains a batch to `batch_sharding`, inside a jitted function."""
        return jax.lax.with_sharding_constraint(batch, self.batch_sharding)

    def shard_state(self, state: Any) -> Any:
        """Constrains a `TrainState` to `state_shardings`, inside a jitted function."""
        if not self.splits_state:
            return state
        return jax.lax.with_sharding_constraint(state, self.state_shardings(state))

    def replicate(self, tree: Any) -> Any:
        """Copies host arrays to every device of every process."""
        return jax.device_put(tree, self.replicated)

    def require_divides(self, batch_size: int, grad_accum_steps: int, name: str) -> None:
        """Raises UserError unless the batch splits evenly over micro-batches and devices."""
        parts = self.batch_parts
        if batch_size % (parts * grad_accum_steps):
            over = f"{parts} devices" if parts == self.mesh.size else f"data x fsdp = {parts}"
            raise ArgumentError(
                name,
                f"{batch_size} does not divide over {over} x"
                f" {grad_accum_steps} micro-batches; a multiple of {parts * grad_accum_steps}",
            )


def data_parallel(devices: Sequence[jax.Device] | None = None) -> MeshSharding:
    """Returns data parallelism over some devices; None: all devices of all processes."""
    return mesh_sharding(None, devices)


def mesh_sharding(mesh: str | None, devices: Sequence[jax.Device] | None = None) -> MeshSharding:
    """Returns the shardings over a mesh.

    Args:
      mesh: sizes of its axes, see `sharding.parse_mesh`; None: all devices on `data`.
      devices: its devices; None: all devices of all processes.

    Raises:
      ArgumentError: it needs another number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = sharding.parse_mesh(f"data:{len(devices)}" if mesh is None else mesh)
    if math.prod(sizes.values()) != len(devices):
        product = " x ".join(map(str, sizes.values()))
        raise ArgumentError(
            "mesh",
            f"{mesh!r} needs {product} = {math.prod(sizes.values())} devices, but there are"
            f" {len(devices)}; sizes whose product is {len(devices)}",
        )
    axis_types = (AxisType.Auto,) * len(sizes)
    return MeshSharding(
        jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types, devices=devices)
    )


def is_main_process() -> bool:
    """Returns whether this process writes the run folder."""
    return jax.process_index() == 0


def sync_hosts(count: int, stop: bool) -> tuple[int, bool]:
    """Returns process 0's `count`, and whether any process has `stop`; equal in all processes."""
    if jax.process_count() == 1:
        return count, stop
    gathered = multihost_utils.process_allgather(np.array([count, stop], np.int32))
    return int(gathered[0, 0]), bool(gathered[:, 1].any())


def describe() -> dict[str, Any]:
    """Returns processor, cores, platform, device kind, and numbers of devices and processes."""
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "platform": device.platform,
        "kind": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _processor() -> str:
    """Returns the name of the processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def to_host(tree: Any) -> Any:
    """Copies whole arrays to host memory.

    Arrays that are replicated, or sharded within this process, are copied by this process alone.
    For those that are sharded over several processes, all of them call it.
    """
    return jax.tree.map(_whole, tree)


def state_to_host(state: TrainState) -> TrainState:
    """Copies a state to host memory, see `to_host`; it is no longer split over a mesh."""
    return to_host(state).replace(mesh=None)


def _whole(leaf: jax.Array) -> np.ndarray:
    if leaf.is_fully_replicated:
        return np.asarray(leaf.addressable_data(0))
    if leaf.is_fully_addressable:
        return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)
