"""The state of a run at step 0, or its shapes, split over the mesh."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxlabs import keys
from jaxlabs.training import capacity
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.pretrained import load_weights, merge
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.sharding import bytes_per_device
from jaxlabs.training.state import TrainState, create_state
from jaxlabs.training.task import Task, build_task_optimizer


def initial_state(
    task: Task,
    config: RunConfig,
    placement: MeshSharding,
    tx: optax.GradientTransformation | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """Returns the state at step 0, split over the mesh by `training.sharding`.

    Args:
      task: the lab's model.
      config: the run's settings.
      placement: the mesh.
      tx: the optimizer; None: that of the task or of the settings.
      weights: parameters to start from, by dotted name; None: those of `--init_from`.

    Raises:
      TooLarge: it does not fit into memory.
    """
    if weights is None:
        weights = {} if config.init_from is None else load_weights(config.init_from).arrays
    create = _state_creator(task, config, placement, tx)
    arguments = np.uint32(config.seed), dict(weights)
    abstract = _abstract(create, placement, *arguments)
    needed = bytes_per_device(abstract)
    capacity.require(needed, "the state (parameters, optimizer state, EMA)")
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    # Runs once: with XLA's full optimization of CPU code it takes up to twice as long to compile.
    on_cpu = placement.mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(create, out_shardings=shardings, compiler_options=options)(*arguments)


def abstract_state(task: Task, config: RunConfig, placement: MeshSharding) -> TrainState:
    """Returns the shapes and shardings of the state; see `initial_state`."""
    create = _state_creator(task, config, placement, None)
    return _abstract(create, placement, np.uint32(config.seed), {})


def _abstract(
    create: Callable[..., TrainState], placement: MeshSharding, *arguments: Any
) -> TrainState:
    """Returns the shapes and shardings of `create(*arguments)`."""
    shapes = jax.eval_shape(create, *arguments)
    return jax.tree.map(
        lambda leaf, split: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split),
        shapes,
        placement.state_shardings(shapes),
    )


def _state_creator(
    task: Task,
    config: RunConfig,
    placement: MeshSharding,
    tx: optax.GradientTransformation | None,
) -> Callable[[jax.Array, Mapping[str, np.ndarray]], TrainState]:
    """Returns `create(seed, weights) -> state`; see `initial_state`."""
    settings, mesh = config.optimization, placement.mesh if placement.splits_state else None
    if tx is None:
        tx = build_task_optimizer(task, config)

    def create(seed, weights):
        variables = task.init(keys.stream(seed, "init"))
        return create_state(
            task.model,
            variables | {"params": merge(variables["params"], weights)},
            tx,
            ema_decay=settings.ema_decay,
            grad_accum_steps=settings.grad_accum_steps,
            carry=task.init_carry(config.batch_size),
            freeze=settings.freeze,
            mesh=mesh,
        )

    return create


def inference_state(task: Task, config: RunConfig, placement: MeshSharding) -> TrainState:
    """Returns a state without an optimizer, into which any checkpoint of the model is restored."""
    return initial_state(task, config, placement, optax.identity(), weights={})
