"""Micro-batches and evaluation batches of a new run, which suit its device.

Those of a preset suit the cache of a CPU. On an accelerator a new run takes a whole batch at once
and evaluates at least as many examples, unless a flag or `--config` says otherwise. Sums then have
another order, and nothing else changes, so that both stay no part of the run's identity: they are
stored beside its settings, and a resumed run keeps them on any machine.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task, is_batch_coupled

SETTINGS = ("grad_accum_steps", "eval_batch_size")


def resolve(
    config: RunConfig,
    task: Task,
    given: Collection[str],
    stored: Mapping[str, Any] | None,
    platform: str | None = None,
) -> dict[str, int]:
    """Returns the settings whose value is not that of `config`, by name.

    Args:
      config: the settings, in which those of a preset are a CPU's.
      task: one that is batch-coupled keeps the preset's values.
      given: names of the settings that the user gave.
      stored: the resolved settings of a run that is resumed, else None; a given one is left out.
      platform: the platform of the run; None: that of this process.
    """
    if stored is not None:
        return {name: stored[name] for name in SETTINGS if name in stored and name not in given}
    if is_batch_coupled(task) or (platform or jax.default_backend()) == "cpu":
        return {}
    suited = {
        "grad_accum_steps": 1,
        "eval_batch_size": max(config.batch_size, config.eval_batch_size),
    }
    present = config.flat()
    return {
        name: value
        for name, value in suited.items()
        if name not in given and value != present[name]
    }
