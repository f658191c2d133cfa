"""The command as the user typed it: in help, messages, reports and config.json.

jaxlabs gpt                 the console script, and the default: in a notebook, in a test
python -m jaxlabs gpt       the same without the script
python -m experiments.gpt   in a checkout
"""

import os
import pathlib
import re
import shlex
import sys
from typing import TYPE_CHECKING

from jaxlabs.runner.lab_source import BUILT_IN, FILE

if TYPE_CHECKING:
    from jaxlabs.runner.lab import Experiment

MODULE_COMMAND = re.compile(r"\bpython -m experiments\.(\w+)")
"""The form of docstrings and of library code, which does not know what was typed."""


def name() -> str:
    """Returns the program without the name of a lab."""
    return "python -m jaxlabs" if _module() else "jaxlabs"


def command(lab: "Experiment") -> str:
    """Returns the command that runs a lab, without flags, in the form that the user typed."""
    source = lab.source
    if source is not None and source.source == FILE:
        return f"{name()} {shlex.quote(_as_typed(source.path))}"
    if _module().startswith("experiments.") and (source is None or source.source == BUILT_IN):
        return f"python -m experiments.{lab.name}"
    return f"{name()} {lab.name}"


def with_typed_commands(text: str) -> str:
    """Returns a text whose commands of built-in labs have the form that the user typed."""
    if _module().startswith("experiments."):
        return text
    return MODULE_COMMAND.sub(rf"{name()} \1", text)


def _module() -> str:
    """Returns the module of this project that `python -m` runs; empty for any other program."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else spec.name
    return module if module.split(".")[0] in ("experiments", "jaxlabs") else ""


def _as_typed(path: str) -> str:
    """Returns a path below the working directory without that directory."""
    file, here = pathlib.Path(path), pathlib.Path.cwd()
    return os.fspath(file.relative_to(here)) if file.is_relative_to(here) else path
