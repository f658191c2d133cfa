"""The labs: where they are found, by name or by the path of a file.

    built-in       a folder of this package with a `lab.py`
    entry point    of the group `jaxlabs.labs`, in the metadata of an installed package
    file           a path that ends in `.py`

The module of a lab defines `LAB` or `STUDY`. Importing this package imports no lab and no JAX, so
that the list of labs is there at once.
"""

import ast
import contextlib
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
from jaxlabs.runner import lab_source
from jaxlabs.runner.lab_source import BUILT_IN, ENTRY_POINT, FILE, LabSource

if TYPE_CHECKING:
    from jaxlabs.runner.lab import Lab, Study

GROUP = "jaxlabs.labs"
"""The group of entry points: `my_lab = "my_package.my_lab"`, or `"my_package.my_lab:LAB"`."""

RESERVED = ("compare", "check", "new", "doctor", "reproduce", "benchmark")
"""Names of commands, which no lab may have."""


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
        found[name] = f"a lab of {entry.dist.name}"
        if name in RESERVED:
            found[name] += f", which cannot run: {name} is a command"
            continue
        # The file may hold anything, such as an extension module or Python of another version.
        with contextlib.suppress(Exception):
            found[name] = docstring_line(_find_file(entry.module)) or found[name]
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


def resolve(lab: "str | os.PathLike | Lab | Study | None") -> "Lab | Study | None":
    """Returns the lab of a name or path; anything else, a lab or None, as it is."""
    return load(lab) if isinstance(lab, str | os.PathLike) else lab


def load_stored(
    config: Mapping[str, Any], given: "str | os.PathLike | Lab | Study | None" = None
) -> "Lab | Study":
    """Returns the lab of a stored run.

    A run folder may come from somebody else, so the file that its config.json names is executed
    only if this user has run it before as it is now.

    Args:
      config: config.json of the run.
      given: the lab, its name, or the path of its file; None: the one that `config` names.

    Raises:
      UserError: the lab is not there any more, was never in a file, or is not that of the run; or
        the user has not run its file.
    """
    name, source = config["experiment"], config.get("lab", {})
    path = source.get("path")
    if given is not None:
        lab = resolve(given)
    elif name in RESERVED:
        raise UserError(f"{name!r} wrote this folder; that of a run of a lab is needed")
    elif source.get("source") == FILE:
        if not isinstance(path, str) or not os.path.exists(path):
            raise ArgumentError(
                "lab", f"{path}, the file of the lab {name!r}, is missing; {REMEDY}"
            )
        lab = _load_file(path, only_recorded=True)
    elif name not in names():
        raise ArgumentError("lab", f"{name!r}, the lab of this run, is not installed; {REMEDY}")
    else:
        lab = load(name)
    if lab.name != name:
        raise ArgumentError("lab", f"{lab.name!r} is not accepted; {name!r}, the lab of this run")
    return lab


REMEDY = "pass the lab itself or the present path of its file"


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
    if entry.name in RESERVED:
        raise UserError(f"{where}: the name of a command; another name")
    try:
        found = entry.load()
    except Exception as error:
        raise UserError(f"{where}: {type(error).__name__}: {_one_line(error)}") from error
    file, digest = getattr(sys.modules[entry.module], "__file__", None), None
    if file is not None and os.path.isfile(file):  # not in a zip file
        digest = hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
    path = None if digest is None else os.path.abspath(file)
    lab = _lab_of(found, LabSource(ENTRY_POINT, entry.name, path, digest), where)
    if lab.name != entry.name:
        raise UserError(f"{where}: its lab is named {lab.name!r}; both need the same name")
    return lab


def _load_file(name: str, *, only_recorded: bool = False) -> "Lab | Study":
    """Returns the lab of a file.

    Args:
      name: path of the file.
      only_recorded: whether a file that the user has not run is refused.
    """
    path = paths.local(name, "lab")
    content = paths.read_bytes(path, "the file of a lab is needed")
    path = os.path.abspath(path)
    source = LabSource(FILE, "", path, hashlib.sha256(content).hexdigest())
    if only_recorded and not lab_source.is_recorded(dataclasses.replace(source, path=name)):
        message = "is code that you have not run as it is now; pass its path if you trust it"
        raise ArgumentError("lab", f"{name}, the file of the lab, {message}")
    # Under a name of its own, so that it replaces no other module; dataclasses look it up there.
    module = types.ModuleType(f"jaxlabs_lab_{hashlib.sha256(path.encode()).hexdigest()[:16]}")
    module.__file__ = path
    with _importable(module):
        try:
            code = compile(content, path, "exec", ast.PyCF_ONLY_AST)
            hidden = _hidden_neighbor(code, os.path.dirname(path))
            if hidden is None:
                exec(compile(code, path, "exec"), module.__dict__)
        except Exception as error:
            line = _line_number(error, path)
            raise UserError(f"{name}{line}: {type(error).__name__}: {_one_line(error)}") from error
        if hidden is not None:
            raise UserError(f"{name}: {hidden}")
        lab = _lab_of(module, source, name)
        if not re.fullmatch(r"[\w-]+", lab.name):
            accepted = "letters, digits, _ and -"
            raise UserError(f"{name}: the name {lab.name!r} is not accepted; {accepted}")
        if lab.name in (*built_in(), *RESERVED):
            kind = "command" if lab.name in RESERVED else "built-in lab"
            raise UserError(f"{name}: {lab.name!r} is the name of a {kind}; another name")
    lab_source.record(source)
    return lab.with_source(dataclasses.replace(source, name=lab.name))


@contextlib.contextmanager
def _importable(module: types.ModuleType) -> Iterator[None]:
    """Makes a lab's module and its neighbors importable; after an exception as before.

    The folder stays at the end of `sys.path`, since a function may import a neighbor later.
    """
    folder = os.path.dirname(module.__file__)
    modules, path = dict(sys.modules), [*sys.path]
    sys.modules[module.__name__] = module
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()  # a neighbor may have been written just now
    try:
        yield
    except BaseException:
        for name in sys.modules.keys() - modules.keys():
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(os.path.join(folder, "")):
                del sys.modules[name]
        if module.__name__ in modules:
            sys.modules[module.__name__] = modules[module.__name__]
        sys.path[:] = path
        raise


def _hidden_neighbor(code: ast.Module, folder: str) -> str | None:
    """Returns a line if a module beside a lab's file is not the one that it would import.

    Another module of that name, such as the neighbor of another lab, would be taken silently.

    Args:
      code: the file.
      folder: its folder.
    """
    checked, left = {"jaxlabs"}, [code]  # a checkout may lie beside the file
    while left:
        for name in sorted(_imported(left.pop()) - checked):
            checked.add(name)
            found = [os.path.join(folder, name, "__init__.py"), os.path.join(folder, f"{name}.py")]
            beside = [path for path in found if os.path.isfile(path)]
            if not beside:
                continue
            present = sys.modules.get(name)
            taken = getattr(present, "__file__", None) if present else _find_file(name)
            taken = None if taken is None else os.fspath(taken)
            if taken is None or not any(os.path.samefile(taken, path) for path in beside):
                other = "another module of that name" if taken is None else taken
                return f"{beside[0]} is hidden by {other}; another name"
            if not taken.endswith("__init__.py"):
                with contextlib.suppress(SyntaxError):  # its import raises it
                    left.append(ast.parse(pathlib.Path(taken).read_bytes()))
    return None


def _imported(code: ast.Module) -> set[str]:
    """Returns the modules that a file imports, without their submodules."""
    found = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def _lab_of(found: Any, source: LabSource, where: str = "") -> "Lab | Study":
    """Returns the lab that a module defines, or the given one, with its source."""
    # The module of a lab has imported it.
    from jaxlabs.runner.lab import Lab, Study

    if isinstance(found, types.ModuleType):
        found = getattr(found, "LAB", None) or getattr(found, "STUDY", None)
    if not isinstance(found, Lab | Study):
        raise UserError(f"{where}: it defines neither LAB, a Lab, nor STUDY, a Study")
    return found.with_source(source)


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
