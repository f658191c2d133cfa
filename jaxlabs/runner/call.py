"""A call from Python as the equivalent of a command line."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxlabs.config import ArgumentError, UserError, canonical, nearest
from jaxlabs.runner import config_file, program
from jaxlabs.runner.lab import Invocation, Lab, Study
from jaxlabs.runner.sweep_plan import flag_value
from jaxlabs.training import compile_cache, jax_settings
from jaxlabs.training.optimizer_config import require_used

PLATFORM_SETTINGS = ("jax_platforms", "jax_platform_name", "jax_default_device")
"""JAX settings that select the device, which `platform` changes."""


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Fixes the JAX settings that change results, as a command does, and restores all settings.

    Errors name arguments, where those of a command name flags; commands in them have the form that
    the user types.
    """
    hook = sys.unraisablehook  # a damaged checkpoint sets it
    before = {name: jax.config.values[name] for name in PLATFORM_SETTINGS}
    try:
        with jax_settings.fixed(), compile_cache.restored():
            yield
    except UserError as error:
        error.args = (program.with_typed_commands(str(error)),)
        raise
    finally:
        sys.unraisablehook = hook
        for name, value in before.items():
            if jax.config.values[name] != value:
                jax.config.update(name, value)


def training(
    lab: Lab | Study,
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Invocation:
    """Returns the equivalent of a command line that trains.

    Args:
      lab: the lab or study.
      settings: settings on top of the preset and of `config`, by the name of their flag.
      preset: name of the preset; None: that of `config`, or the first one.
      config: path of a run's config.json, whose settings to repeat.
      overwrite: whether to delete the run folder and start over.

    Raises:
      ArgumentError: an unknown preset or setting, or an invalid value.
    """
    options = {"overwrite": overwrite}
    if config is not None:
        file = os.fspath(config)
        named, stored = config_file.read(file, lab)
        options |= {"config_file": file, "stored": stored}
        preset = config_file.preset_with(file, named, preset, lab)
    elif preset is None:
        preset = next(iter(lab.presets))
    if preset not in lab.presets:
        accepted = f"one of {', '.join(lab.presets)}{nearest(str(preset), lab.presets)}"
        raise ArgumentError("preset", f"{preset!r} is not accepted; {accepted}")
    found = invocation(lab, preset, settings, **options)
    checked = found.config()  # raises for an unknown setting or an invalid value
    if isinstance(lab, Lab):
        require_used([checked.optimization], found.overrides)
        if (checked.num_processes or 1) > 1:
            message = f"{checked.num_processes} is not accepted; 1, or the command of the lab"
            raise ArgumentError("num_processes", message)
    return found


def invocation(
    lab: Lab | Study, preset: str, settings: Mapping[str, Any], **options: Any
) -> Invocation:
    """Returns the equivalent of a command line.

    Raises:
      ArgumentError: one setting is given under two names.
    """
    given = {name: _python_value(value) for name, value in settings.items()}
    command = {"preset": preset}
    if "config_file" in options:
        command["config"] = options["config_file"]
    flags = [f"--{name}={flag_value(value)}" for name, value in (command | given).items()]
    overrides = canonical(lab.config_class, given)
    options = {"overwrite": False} | options
    return Invocation(
        lab=lab, arguments=tuple(flags), preset=preset, overrides=overrides, **options
    )


def _python_value(value: Any) -> Any:
    """Returns a scalar of numpy as one of Python, and a path as text."""
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
