"""The built-in labs, one folder each."""

import importlib
import pkgutil

from jaxlabs.runner.lab import Lab, Study


def names() -> list[str]:
    """Returns the names of the built-in labs, in alphabetical order."""
    return [found.name for found in pkgutil.iter_modules(__path__)]


def load(name: str) -> Lab | Study:
    """Returns a built-in lab or study."""
    module = importlib.import_module(f"{__name__}.{name}.lab")
    return module.LAB if hasattr(module, "LAB") else module.STUDY
