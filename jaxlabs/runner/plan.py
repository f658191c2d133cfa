"""`--plan`: the memory and the FLOPs of a training step on a mesh, found without running it.

States are only shapes (`jax.eval_shape`); the training step is compiled for the devices of the
mesh. Where there are not as many, virtual CPU devices take their place.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlabs.data.batches import on_host
from jaxlabs.data.dataset import DataModule
from jaxlabs.runner.lab import Invocation
from jaxlabs.training import device_settings, devices, precision
from jaxlabs.training.advance import build_multi_step, flops_per_step
from jaxlabs.training.capacity import ProgramMemory, program_memory
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.feed import Feed
from jaxlabs.training.initial_state import abstract_state
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.sharding import bytes_per_device, parse_mesh
from jaxlabs.training.state import count_parameters
from jaxlabs.training.task import Task, require_trainable
from jaxlabs.training.trainer import require_divides

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of the compiler for CPUs: code is not optimized, which leaves the buffers as they are."""

UNITS = ("B", "kB", "MB", "GB", "TB")


class Plan(NamedTuple):
    """What a training step needs; bytes are those of one device."""

    num_parameters: int  #: of the whole model
    parameters: int  #: bytes of the parameters
    optimizer: int  #: bytes of the optimizer state
    ema: int  #: bytes of the EMA of the parameters, 0 without one
    data: int  #: bytes of the training data, or of the batches that are loaded at a time
    #: of the matmuls and convolutions of a step, over all devices; None if they vary
    flops: float | None
    steps: jax.stages.Traced  #: the training steps

    def compiled(self, platform: str) -> ProgramMemory | None:
        """Compiles the training steps for the devices of the mesh, whose platform is given."""
        options = QUICKLY if platform == "cpu" else None
        return program_memory(self.steps.lower().compile(compiler_options=options))


def run(invocation: Invocation) -> None:
    """Prints the plan of a command line; it opens no run folder.

    Raises:
      UserError: invalid settings or data, or a mesh that this process cannot have.
    """
    config = invocation.config()
    placement = _placement(config)
    data = invocation.lab.load_data(config)
    tuned = precision.resolve(config, None)
    task = invocation.lab.build_task(precision.with_precision(config, tuned), data.data_spec)
    given = {*invocation.overrides, *invocation.stored}
    platform = placement.mesh.devices.flat[0].platform
    tuned = device_settings.resolve(config, task, given, None, platform)
    config = precision.with_precision(config, tuned)  # the micro-batches of a run on these devices
    require_divides(config, placement)
    require_trainable(task, config, data.train)
    for line in _lines(config, placement, plan(task, config, placement, data)):
        print(line, flush=True)


def plan(task: Task, config: RunConfig, placement: MeshSharding, data: DataModule) -> Plan:
    """Returns the plan of a run.

    Args:
      task: the lab's model.
      config: the run's settings.
      placement: the mesh.
      data: the data of the run.
    """
    state = abstract_state(task, config, placement)
    dataset = _abstract_data(config, placement, data)
    scalars = jax.ShapeDtypeStruct((), np.int32), jax.ShapeDtypeStruct((), np.uint32)
    traced = build_multi_step(task, config, placement, state).trace(state, dataset, *scalars)
    return Plan(
        num_parameters=count_parameters(state.params),
        parameters=bytes_per_device(state.params),
        optimizer=bytes_per_device(state.opt_state),
        ema=bytes_per_device(state.ema_params),
        data=bytes_per_device(dataset),
        flops=flops_per_step(traced),
        steps=traced,
    )


def _abstract_data(config: RunConfig, placement: MeshSharding, data: DataModule) -> Any:
    """Returns the shapes and shardings of the data that the steps read."""
    dataset, split = data.train, placement.replicated
    if on_host(dataset):  # a stack of batches
        dataset, _ = Feed(dataset, config, placement, steps=1).at(0)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            np.shape(leaf), leaf.dtype, sharding=getattr(leaf, "sharding", split)
        ),
        dataset,
    )


def _placement(config: RunConfig) -> MeshSharding:
    """Returns the mesh, on devices of this machine or on virtual ones.

    Raises:
      ArgumentError: JAX has already started, with fewer devices.
    """
    if config.mesh is None:
        devices.start(config.platform)
        return devices.data_parallel()
    needed = math.prod(parse_mesh(config.mesh).values())
    with contextlib.suppress(RuntimeError):  # JAX has started already
        jax.config.update("jax_num_cpu_devices", needed)
    devices.start(config.platform)
    found = jax.devices()
    if len(found) != needed:
        with contextlib.suppress(RuntimeError):  # the environment excludes CPUs
            found = jax.devices("cpu")[:needed]
    return devices.mesh_sharding(config.mesh, found)


def _lines(config: RunConfig, placement: MeshSharding, found: Plan) -> Iterator[str]:
    """Yields the lines of a plan, the last two after the program is compiled."""
    count, device = placement.mesh.size, placement.mesh.devices.flat[0]
    axes = ", ".join(f"{axis} {size}" for axis, size in placement.mesh.shape.items())
    yield f"{found.num_parameters:,} parameters, {count} device{'s' * (count > 1)}: {axes}"
    if found.flops is None:
        yield "FLOPs per step vary"
    else:
        each = f"{found.flops / count:.4g} per device"
        yield f"FLOPs per step of {config.batch_size} examples: {found.flops:.4g}, {each}"
    yield "bytes per device"
    for name in ("parameters", "optimizer", "ema", "data"):
        if size := getattr(found, name):
            yield _row(name, size)
    program = found.compiled(device.platform)
    compiled = "CPU" if device.platform == "cpu" else device.device_kind
    if program is None:
        yield f"  activations, gradients, workspace: not reported by {compiled}"
        return
    yield _row(f"activations, gradients, workspace (compiled for {compiled})", program.temporaries)
    yield _row(f"total (compiled for {compiled})", sum(program))


def _row(name: str, size: int) -> str:
    return f"  {name:60} {_readable(size):>9}"


def _readable(size: float) -> str:
    """Returns a number of bytes with three or four digits and a decimal unit."""
    unit = next(index for index in range(len(UNITS)) if size < 1000 ** (index + 1))
    return f"{size / 1000**unit:.{0 if unit == 0 else 2}f} {UNITS[unit]}"
