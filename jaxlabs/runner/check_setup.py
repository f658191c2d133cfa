"""What the properties of a check share: a lab with small settings, its data and task."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxlabs.data.dataset import DataModule
from jaxlabs.runner.lab import Invocation, Lab
from jaxlabs.training import devices
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.optimizer_config import FULL_BATCH
from jaxlabs.training.precision import STRICT, with_precision
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task, is_full_batch, require_trainable

SMALL = {"batch_size": 8, "eval_batch_size": 8, "grad_accum_steps": 1}
"""Settings on top of the preset, below the given ones; not for full-batch optimizers."""

STEPS, RESUMED_AT = 4, 2
SHORT = {
    "steps": STEPS,
    "checkpoint_every": RESUMED_AT,
    "eval_every": STEPS,
    "keep_checkpoints": STEPS,
    "steps_per_call": RESUMED_AT,
    "lr_schedule": "constant",
    "warmup_steps": 0,
}
"""Settings on top of all others: a run of a few steps, the schedule at its peak."""


class Setup(NamedTuple):
    """A lab with small settings, its data and task, on one device."""

    lab: Lab
    config: RunConfig
    data: DataModule
    task: Task
    placement: MeshSharding


def make_setup(invocation: Invocation) -> Setup:
    """Returns the setup of a command line.

    Raises:
      UserError: a setting is not accepted, or the data are missing.
    """
    lab, preset = invocation.lab, dict(invocation.lab.presets[invocation.preset])
    devices.start(invocation.config().platform)
    own = preset | invocation.stored

    def build(small: Mapping[str, Any]) -> tuple[RunConfig, DataModule, Task]:
        values = own | small | invocation.overrides | SHORT
        config = with_precision(lab.config_class.from_flat(values), STRICT)
        data = lab.load_data(config)
        return config, data, lab.build_task(config, data.data_spec)

    given = own | invocation.overrides
    config, data, task = build({} if given.get("optimizer") in FULL_BATCH else SMALL)
    if task.optimizer is not None and is_full_batch(task, config):
        config, data, task = build({})
    require_trainable(task, config, data.train)
    few = slice(config.eval_batch_size)
    sets = {name: examples.take(few) for name, examples in data.eval_sets.items()}
    data = dataclasses.replace(data, eval_sets=sets, final_eval_sets=dict)
    return Setup(lab, config, data, task, devices.data_parallel(jax.devices()[:1]))
