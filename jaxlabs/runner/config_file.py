"""`--config=FILE`: the settings of a run, read from its config.json."""

from typing import Any

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.run_folder import files, renamed
from jaxlabs.runner.lab import Experiment
from jaxlabs.training.optimizer_config import default_weight_decay
from jaxlabs.training.run_config import MACHINE

NOT_TAKEN = (*MACHINE, "workdir")
"""Settings of a machine and of one run, which another run does not inherit."""


def preset_with(path: str, stored: str, given: str | None, lab: Experiment) -> str:
    """Returns the preset of a run with `--config`, after which its default folder is named.

    Args:
      path: path of the config.json.
      stored: the preset in it.
      given: the preset on the command line, if any.
      lab: the lab.

    Raises:
      ArgumentError: the given one would change nothing, since the file has all settings.
    """
    if stored not in lab.presets:
        return next(iter(lab.presets)) if given is None else given
    if given not in (None, stored):
        raise ArgumentError(
            "preset",
            f"{given} differs from {stored} of {path}, which has all settings; leave it out",
        )
    return stored


def read(path: str, lab: Experiment) -> tuple[str, dict[str, Any]]:
    """Returns the preset of a stored run, and its settings by their present names.

    Args:
      path: path of a config.json, under any name.
      lab: the lab that the run must be of.

    Raises:
      ArgumentError: the file is missing or damaged, or holds a sweep or a run of another lab.
    """
    try:
        content = paths.read_bytes(paths.local(path, "config"), "the config.json of a run")
    except UserError as error:
        raise ArgumentError("config", str(error).removeprefix("config: ")) from None
    try:
        stored = renamed.config(files.parse(content))
        files.check_config(stored)
    except ValueError as error:
        reason = f"{path}: no config.json of a run ({error})"
        raise ArgumentError("config", reason) from None
    if stored["experiment"] != lab.name:
        raise ArgumentError(
            "config", f"{path} is of a run of {stored['experiment']}; one of {lab.name}"
        )
    if "sweep" in stored:
        raise ArgumentError(
            "config", f"{path} is of the sweep {stored['sweep']}; one of a run below its runs/"
        )
    try:
        # A setting that is newer than the run has its default, not the value of the preset.
        settings = lab.config_class.from_flat(stored["settings"]).flat()
    except UserError as error:
        raise ArgumentError("config", f"{path}: {error}") from None
    if "weight_decay" in settings and settings["weight_decay"] == default_weight_decay(
        settings["optimizer"]
    ):
        settings["weight_decay"] = None  # that of the optimizer, which a flag may change
    return stored["preset"], {
        name: value for name, value in settings.items() if name not in NOT_TAKEN
    }
