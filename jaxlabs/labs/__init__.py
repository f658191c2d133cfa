"""The labs: where they are found, by name or by the path of a file.

    built-in       a folder of this package with a `lab.py`
    entry point    of the group `jaxlabs.labs`, in the metadata of an installed package
    file           a path that ends in `.py`

The module of a lab defines `LAB` or `STUDY`. Importing this package imports no lab and no JAX, so
that the list of labs is there at once.
"""

import ast
import dataclasses
import hashlib
import importlib
import importlib.metadata
import os
import pathlib
import pkgutil
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.runner.lab_source import BUILT_IN, ENTRY_POINT, FILE, LabSource

if TYPE_CHECKING:
    from jaxlabs.runner.lab import Lab, Study

GROUP = "jaxlabs.labs"
"""The group of entry points: `my_lab = "my_package.my_lab"`, or `"my_package.my_lab:LAB"`."""


def built_in() -> dict[str, pathlib.Path]:
    """Returns the files of the built-in labs by name, in alphabetical order."""
    return {
        found.name: pathlib.Path(found.module_finder.path, found.name, "lab.py")
        for found in pkgutil.iter_modules(__path__)
    }


def names() -> list[str]:
    """Returns the names of the built-in labs, and of those of other packages after them."""
    return [*built_in(), *sorted(_entry_points())]


class Labs(Mapping[str, "Lab | Study"]):
    """All labs by name; a lab is imported when it is looked up."""

    def __init__(self):
        self._names = names()

    def __getitem__(self, name: str) -> "Lab | Study":
        if name not in self._names:
            raise KeyError(name)
        return load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def summaries() -> dict[str, str]:
    """Returns the first line of every lab's description by name; imports no lab."""
    found = {name: docstring_line(file) for name, file in built_in().items()}
    for name, entry in sorted(_entry_points().items()):
        file = _find_file(entry.module)
        found[name] = docstring_line(file) if file else f"a lab of {entry.dist.name}"
    return found


def docstring_line(file: pathlib.Path) -> str:
    """Returns the first line of the docstring of a module, without importing it."""
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return docstring.partition("\n")[0]


def is_file(name: str) -> bool:
    """Returns whether a name of a lab is the path of a file."""
    return name.endswith(".py") or "/" in name or os.sep in name


def load(name: str | os.PathLike) -> "Lab | Study":
    """Returns a lab or study, by its name or by the path of its file.

    The folder of a file is added to the end of `sys.path`, so that the lab can import its
    neighbors.

    Raises:
      UserError: the name is unknown, the file cannot be read or imported, or it defines no lab.
    """
    name = os.fspath(name)
    if is_file(name):
        return _load_file(name)
    if name in built_in():
        module = importlib.import_module(f"{__name__}.{name}.lab")
        return _lab_of(module, LabSource(BUILT_IN, name))
    entries = _entry_points()
    if name not in entries:
        raise UserError(f"{name!r}: unknown lab{nearest(name, names())}")
    return _load_entry_point(entries[name])


def load_stored(config: Mapping[str, Any]) -> "Lab | Study":
    """Returns the lab of a stored run.

    Args:
      config: config.json of the run.

    Raises:
      UserError: the lab is not there any more, or was never in a file.
    """
    name, source = config["experiment"], config.get("lab", {})
    path = source.get("path")
    if source.get("source") == FILE:
        if isinstance(path, str) and os.path.exists(path):
            return load(path)
        raise ArgumentError("lab", f"{path}, the file of the lab {name!r}, is missing; {PASS}")
    if name not in names():
        raise ArgumentError("lab", f"{name!r}, the lab of this run, is not installed; {PASS}")
    return load(name)


PASS = "pass the lab itself or the present path of its file"


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """Returns the entry points of other packages by name; a built-in lab keeps its name."""
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry for entry in found if entry.name not in built_in()}


def _find_file(module: str) -> pathlib.Path | None:
    """Returns the file of a module without importing it or its packages; None if not found."""
    path, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return pathlib.Path(spec.origin) if spec.has_location else None


def _load_entry_point(entry: importlib.metadata.EntryPoint) -> "Lab | Study":
    where = f"{entry.name!r} of {entry.dist.name}"
    try:
        found = entry.load()
    except Exception as error:
        raise UserError(f"{where}: {type(error).__name__}: {_one_line(error)}") from error
    file = sys.modules[entry.module].__file__
    digest = hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
    lab = _lab_of(found, LabSource(ENTRY_POINT, entry.name, os.path.abspath(file), digest), where)
    if lab.name != entry.name:
        raise UserError(f"{where}: its lab is named {lab.name!r}; both need the same name")
    return lab


def _load_file(name: str) -> "Lab | Study":
    path = paths.local(name, "lab")
    content = paths.read_bytes(path, "the file of a lab is needed")
    path = os.path.abspath(path)
    digest = hashlib.sha256(content).hexdigest()
    # Under a name of its own, so that it replaces no other module; dataclasses look it up there.
    module = types.ModuleType(f"jaxlabs_lab_{hashlib.sha256(path.encode()).hexdigest()[:16]}")
    module.__file__ = path
    sys.modules[module.__name__] = module
    if os.path.dirname(path) not in sys.path:
        sys.path.append(os.path.dirname(path))
    try:
        exec(compile(content, path, "exec"), module.__dict__)
    except Exception as error:
        line = _line_number(error, path)
        raise UserError(f"{name}{line}: {type(error).__name__}: {_one_line(error)}") from error
    lab = _lab_of(module, LabSource(FILE, "", path, digest), name)
    if not re.fullmatch(r"[\w-]+", lab.name):
        raise UserError(f"{name}: the name {lab.name!r} is not accepted; letters, digits, _ and -")
    if lab.name in built_in():
        raise UserError(f"{name}: {lab.name!r} is the name of a built-in lab; another name")
    return dataclasses.replace(lab, source=dataclasses.replace(lab.source, name=lab.name))


def _lab_of(found: Any, source: LabSource, where: str = "") -> "Lab | Study":
    """Returns the lab that a module defines, or the given one, with its source."""
    # The module of a lab has imported it.
    from jaxlabs.runner.lab import Lab, Study

    if isinstance(found, types.ModuleType):
        found = getattr(found, "LAB", None) or getattr(found, "STUDY", None)
    if not isinstance(found, Lab | Study):
        raise UserError(f"{where}: it defines neither LAB, a Lab, nor STUDY, a Study")
    return dataclasses.replace(found, source=source)


def _line_number(error: Exception, path: str) -> str:
    """Returns the line of a file where an exception came from, as `, line 7`."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""


def _one_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(text.split())
