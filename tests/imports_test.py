"""The floors of the house: who may import whom, and what importing must not do."""

import ast
import functools
import graphlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The rooms, from the attic to the ground floor; a module lives in the room with its longest prefix.
ROOMS = {
    "experiments": ["experiments"],
    "command": [
        *("jaxlabs.command", "jaxlabs.lab", "jaxlabs.sweep_plan"),
        *("jaxlabs.modes", "jaxlabs.studies", "jaxlabs.sweeps", "jaxlabs.opening"),
        *("jaxlabs.reproduction", "jaxlabs.restoring", "jaxlabs.summary"),
    ],
    "report": ["jaxlabs.report"],
    "analysis": ["jaxlabs.analysis"],
    "peers": ["jaxlabs.peers"],
    "models": ["jaxlabs.models"],
    "engine": ["jaxlabs.training"],
    "step": [
        "jaxlabs.training.metrics",
        "jaxlabs.training.optimizers",
        "jaxlabs.training.state",
        "jaxlabs.training.step",
    ],
    "decoding": ["jaxlabs.decoding"],
    "diffusion": ["jaxlabs.diffusion"],
    "losses": ["jaxlabs.losses"],
    "layers": ["jaxlabs.layers"],
    # These stand beside the floors.
    "data": ["jaxlabs.data"],
    "config": ["jaxlabs.config"],
    "keys": ["jaxlabs.keys"],
    "paths": ["jaxlabs.paths"],
    "published": ["jaxlabs.published"],
    "run_folder": ["jaxlabs.run_folder", "jaxlabs.run_reader", "jaxlabs.run_files"],
}
# Folders of several rooms: importing any of these runs their `__init__`, so it imports nothing.
HALLS = {"jaxlabs", "jaxlabs.training"}

PARTS = {"layers", "losses", "decoding", "diffusion", "step"}
BESIDE = {"config", "data", "keys", "paths"}
BELOW_COMMAND = PARTS | BESIDE | {"models", "engine", "analysis", "report", "published"}
MAY_IMPORT = {
    "experiments": BELOW_COMMAND | {"command", "peers", "run_folder"},
    "command": BELOW_COMMAND | {"run_folder"},
    "report": {"published", "run_folder"},
    "analysis": PARTS | BESIDE | {"models", "engine", "peers", "published", "run_folder"},
    "peers": BELOW_COMMAND | {"run_folder"},
    "models": PARTS | BESIDE,
    "engine": PARTS | BESIDE | {"run_folder"},
    "step": {"layers", "losses", "config", "keys", "run_folder"},
    "decoding": {"layers", "config", "keys"},
    "diffusion": {"layers", "config", "keys"},
    "losses": {"layers"},
    "layers": set(),
    "data": {"config", "keys", "paths"},
    "config": set(),
    "keys": set(),
    "paths": {"config"},
    "published": set(),
    "run_folder": {"config", "paths"},
}

# Libraries that only these rooms may name.
RESERVED = {
    "absl.app": {"config", "command", "experiments"},
    "absl.flags": {"config", "command", "experiments"},
    "diffusers": {"peers"},
    "matplotlib": {"report", "data"},  # the digits of `data` are drawn with matplotlib's fonts
    "orbax": {"engine"},
    "tensorflow_datasets": {"data"},
    "torch": {"peers"},
}
# Rooms that may name these libraries and no other.
ONLY = {
    "layers": {"flax", "jax", "numpy"},
    "losses": {"flax", "jax", "numpy"},
    "report": {"PIL", "matplotlib", "numpy"},
    "published": set(),
}
# Slow or optional to import: loaded inside the functions that need them.
LAZY = ("diffusers", "jaxlabs.peers", "tensorflow", "tensorflow_datasets", "torch")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.glob("jaxlabs/**/*.py"), *ROOT.glob("experiments/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """Yields all statements below a node, those inside functions only when `lazy`."""
    for child in ast.iter_child_nodes(node):
        yield child
        if lazy or not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from statements(child, lazy=lazy)


@functools.cache
def imported_names(module: str, *, lazy: bool = True) -> frozenset[str]:
    """What a module imports: our modules, others by full name; `lazy` also inside functions."""
    names = set()
    for node in statements(ast.parse(MODULES[module].read_text()), lazy=lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(node.module if node.module in MODULES and inner not in MODULES else inner)
    return frozenset(names)


def libraries(module: str) -> set[str]:
    """What a module imports from outside, without the standard library."""
    inside = {"experiments", "jaxlabs"} | sys.stdlib_module_names
    return {name for name in imported_names(module) if name.partition(".")[0] not in inside}


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def room_of(module: str) -> str | None:
    prefixes = [
        (len(prefix), room)
        for room, prefixes in ROOMS.items()
        for prefix in prefixes
        if within(module, prefix)
    ]
    return max(prefixes)[1] if prefixes else None


HOUSED = {module: room_of(module) for module in set(MODULES) - HALLS if room_of(module)}


def test_every_module_stands_in_a_room():
    homeless = set(MODULES) - set(HOUSED) - HALLS
    assert not homeless, f"give these a room (and so a floor) in ROOMS: {sorted(homeless)}"


def test_modules_import_only_what_stands_below_or_beside_them():
    climbing = [
        f"{module} ({room}) imports {name}"
        for module, room in HOUSED.items()
        for name in sorted(imported_names(module) & set(HOUSED))
        if HOUSED[name] not in MAY_IMPORT[room] | {room}
    ]
    assert not climbing, "\n".join(climbing)


def test_halls_import_nothing():
    assert not [hall for hall in HALLS if imported_names(hall)]


def test_no_module_imports_itself_by_a_detour():
    graph = {module: imported_names(module, lazy=False) & set(MODULES) for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which tells the cycle


def test_libraries_are_imported_only_in_their_rooms():
    strangers = [
        f"{module} ({room}) imports {name}"
        for module, room in HOUSED.items()
        for name in sorted(libraries(module))
        if name.partition(".")[0] not in ONLY.get(room, {name.partition(".")[0]})
        or any(within(name, library) and room not in rooms for library, rooms in RESERVED.items())
    ]
    assert not strangers, "\n".join(strangers)


def test_imported_libraries_are_declared_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    peers = project["optional-dependencies"]["peers"]
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in [*project["dependencies"], *peers]}
    providers = importlib.metadata.packages_distributions()
    for module in MODULES:
        for name in libraries(module):
            top = name.partition(".")[0]
            found = {provider.lower().replace("_", "-") for provider in providers.get(top, [top])}
            assert found & declared, f"{module} imports {top}: not declared in pyproject.toml"


def run_without_backend(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where jax cannot make any array: its only platform does not exist."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "none_such"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_importing_makes_no_array_and_loads_nothing_lazy():
    imports = [f"import {module}" for module in MODULES if not within(module, "jaxlabs.peers")]
    report = ["import sys", f"print([name for name in {LAZY} if name in sys.modules])"]
    result = run_without_backend("\n".join(imports + report))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_an_array_made_without_a_platform_is_noticed():
    result = run_without_backend("import jax.numpy as jnp; jnp.zeros(())")
    assert result.returncode != 0
    assert "none_such" in result.stderr


def test_files_stay_short():
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    most = {module: 140 if within(module, "experiments") else 300 for module in MODULES}
    long = {module: lines for module, lines in lengths.items() if lines > most[module]}
    assert not long, f"these ask to be two files (at most 300 lines; an experiment 140): {long}"
