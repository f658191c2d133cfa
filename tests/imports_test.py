"""Import rules: the layers of the packages, and the effects of importing them."""

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

# Layers from top to bottom; a module belongs to the layer with its longest prefix.
LAYERS = {
    "experiments": ["experiments"],
    "command": [
        *("jaxlabs.command", "jaxlabs.lab", "jaxlabs.sweep_plan"),
        *("jaxlabs.modes", "jaxlabs.studies", "jaxlabs.sweeps", "jaxlabs.opening"),
        *(
            "jaxlabs.reproduction",
            "jaxlabs.restoring",
            "jaxlabs.standard_streams",
            "jaxlabs.summary",
        ),
    ],
    "report": ["jaxlabs.report"],
    "analysis": ["jaxlabs.analysis"],
    "peers": ["jaxlabs.peers"],
    "models": ["jaxlabs.models"],
    "training": ["jaxlabs.training"],
    "step": [
        "jaxlabs.training.metric_writer",
        "jaxlabs.training.optimizers",
        "jaxlabs.training.state",
        "jaxlabs.training.step",
    ],
    "decoding": ["jaxlabs.decoding"],
    "diffusion": ["jaxlabs.diffusion"],
    "losses": ["jaxlabs.losses"],
    "layers": ["jaxlabs.layers"],
    # Independent of the order.
    "data": ["jaxlabs.data"],
    "config": ["jaxlabs.config"],
    "keys": ["jaxlabs.keys"],
    "paths": ["jaxlabs.paths"],
    "load_matplotlib": ["jaxlabs.load_matplotlib"],
    "published": ["jaxlabs.published"],
    "run_folder": [
        "jaxlabs.run_folder",
        "jaxlabs.run_reader",
        "jaxlabs.run_files",
        "jaxlabs.renamed",
    ],
}
# Packages of several layers; their `__init__` imports nothing.
PACKAGES = {"jaxlabs", "jaxlabs.training"}

PARTS = {"layers", "losses", "decoding", "diffusion", "step"}
BESIDE = {"config", "data", "keys", "paths"}
BELOW_COMMAND = PARTS | BESIDE | {"models", "training", "analysis", "report", "published"}
MAY_IMPORT = {
    "experiments": BELOW_COMMAND | {"command", "peers", "run_folder"},
    "command": BELOW_COMMAND | {"run_folder"},
    "report": {"load_matplotlib", "published", "run_folder"},
    "analysis": PARTS | BESIDE | {"models", "training", "peers", "published", "run_folder"},
    "peers": BELOW_COMMAND | {"run_folder"},
    "models": PARTS | BESIDE,
    "training": PARTS | BESIDE | {"run_folder"},
    "step": {"layers", "losses", "config", "keys", "run_folder"},
    "decoding": {"layers", "config", "keys"},
    "diffusion": {"layers", "config", "keys"},
    "losses": {"layers"},
    "layers": set(),
    "data": {"config", "keys", "load_matplotlib", "paths"},
    "config": set(),
    "keys": set(),
    "paths": {"config"},
    "load_matplotlib": set(),
    "published": set(),
    "run_folder": {"config", "paths"},
}

# Libraries that only these layers may import.
RESERVED = {
    "absl.app": {"config", "command", "experiments"},
    "absl.flags": {"config", "command", "experiments"},
    "diffusers": {"peers"},
    # The digits of `data` are rendered with matplotlib's fonts.
    "matplotlib": {"report", "data", "load_matplotlib"},
    "orbax": {"training"},
    "tensorflow_datasets": {"data"},
    "torch": {"peers"},
}
# Layers that may import only these libraries.
ONLY = {
    "layers": {"flax", "jax", "numpy"},
    "losses": {"flax", "jax", "numpy"},
    "report": {"PIL", "matplotlib", "numpy"},
    "published": set(),
}
# Slow or optional libraries, imported inside functions.
LAZY = ("diffusers", "jaxlabs.peers", "tensorflow", "tensorflow_datasets", "torch")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.glob("jaxlabs/**/*.py"), *ROOT.glob("experiments/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """Yields all statements below a node; those inside functions only if `lazy`."""
    for child in ast.iter_child_nodes(node):
        yield child
        if lazy or not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from statements(child, lazy=lazy)


@functools.cache
def imported_names(module: str, *, lazy: bool = True) -> frozenset[str]:
    """Returns the imports of a module by full name; if `lazy`, also those inside functions."""
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
    """Returns the third-party imports of a module."""
    inside = {"experiments", "jaxlabs"} | sys.stdlib_module_names
    return {name for name in imported_names(module) if name.partition(".")[0] not in inside}


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def layer_of(module: str) -> str | None:
    prefixes = [
        (len(prefix), layer)
        for layer, prefixes in LAYERS.items()
        for prefix in prefixes
        if within(module, prefix)
    ]
    return max(prefixes)[1] if prefixes else None


LAYER_OF = {module: layer_of(module) for module in set(MODULES) - PACKAGES if layer_of(module)}


def test_every_module_belongs_to_a_layer():
    missing = set(MODULES) - set(LAYER_OF) - PACKAGES
    assert not missing, f"add these to LAYERS: {sorted(missing)}"


def test_modules_import_only_from_allowed_layers():
    violations = [
        f"{module} ({layer}) imports {name}"
        for module, layer in LAYER_OF.items()
        for name in sorted(imported_names(module) & set(LAYER_OF))
        if LAYER_OF[name] not in MAY_IMPORT[layer] | {layer}
    ]
    assert not violations, "\n".join(violations)


def test_packages_of_several_layers_import_nothing():
    assert not [package for package in PACKAGES if imported_names(package)]


def test_imports_have_no_cycle():
    graph = {module: imported_names(module, lazy=False) & set(MODULES) for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_libraries_are_imported_only_in_their_layers():
    violations = [
        f"{module} ({layer}) imports {name}"
        for module, layer in LAYER_OF.items()
        for name in sorted(libraries(module))
        if name.partition(".")[0] not in ONLY.get(layer, {name.partition(".")[0]})
        or any(
            within(name, library) and layer not in layers for library, layers in RESERVED.items()
        )
    ]
    assert not violations, "\n".join(violations)


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
    """Runs code without a JAX backend, so that creating an array fails."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "none_such"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_imports_create_no_array_and_load_no_lazy_library():
    imports = [f"import {module}" for module in MODULES if not within(module, "jaxlabs.peers")]
    report = ["import sys", f"print([name for name in {LAZY} if name in sys.modules])"]
    result = run_without_backend("\n".join(imports + report))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_creating_an_array_without_a_platform_fails():
    result = run_without_backend("import jax.numpy as jnp; jnp.zeros(())")
    assert result.returncode != 0
    assert "none_such" in result.stderr
