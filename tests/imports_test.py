"""Import rules: the layers of the packages, and the effects of importing them."""

import ast
import functools
import graphlib
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What a package or root module may import, from top to bottom. A name stands for all modules below
# it, except for those with a longer name here.
PARTS = {"decoding", "diffusion", "layers", "losses", "training.step"}
BELOW_LABS = PARTS | {
    "analysis",
    "config",
    "data",
    "keys",
    "models",
    "paths",
    "published",
    "report",
    "run_folder",
    "runner",
    "training",
}
MAY_IMPORT = {
    "__main__": {"commands", "runner", "training"},
    "api": BELOW_LABS | {"labs"},
    "commands": {"config", "labs", "runner"},
    "experiments": {"benchmark", "labs", "runner", "training"},
    "benchmark": BELOW_LABS | {"labs"},
    "labs": BELOW_LABS,
    "runner": BELOW_LABS - {"analysis", "models"},
    "runner.new": {"config", "labs", "runner"},
    "runner.doctor": {"config", "data", "labs", "runner", "training"},
    "runner.check": {"config", "keys", "labs", "run_folder", "runner", "training"},
    "runner.compare": {"config", "labs", "paths", "report", "run_folder", "runner", "training"},
    "report": {"load_matplotlib", "published", "run_folder"},
    "analysis": PARTS | {"config", "data", "keys", "models", "paths", "run_folder", "training"},
    "models": PARTS | {"config", "data", "keys", "paths"},
    "training": PARTS | {"config", "data", "keys", "paths", "run_folder"},
    "training.step": {"config", "keys", "layers", "losses", "run_folder"},
    "decoding": {"config", "keys", "layers"},
    "diffusion": {"config", "keys", "layers"},
    "losses": {"layers"},
    "layers": set(),
    "data": {"config", "keys", "load_matplotlib", "paths"},
    "published": set(),
    "run_folder": {"config", "paths"},
    "paths": {"config"},
    "config": set(),
    "keys": set(),
    "load_matplotlib": set(),
}
# Modules of a package that count as another one.
ELSEWHERE = {
    "runner.compare": ["jaxlabs.runner.finished_runs"],
    "runner.doctor": ["jaxlabs.runner.machine"],
    "training.step": [
        "jaxlabs.training.metric_writer",
        "jaxlabs.training.optimizer_config",
        "jaxlabs.training.optimizers",
        "jaxlabs.training.param_labels",
        "jaxlabs.training.schedules",
        "jaxlabs.training.sharding",
        "jaxlabs.training.state",
    ],
}
# Packages of several layers; their `__init__` imports nothing.
PACKAGES = {"jaxlabs", "jaxlabs.training"}

# Libraries that only these packages may import.
RESERVED = {
    "diffusers": {"benchmark"},
    # The digits of `data` are rendered with matplotlib's fonts.
    "matplotlib": {"benchmark", "data", "labs", "load_matplotlib", "report"},
    "orbax": {"training"},
    "tensorflow_datasets": {"data"},
    "torch": {"benchmark"},
}
# Packages that may import only these libraries.
ONLY = {
    "layers": {"flax", "jax", "numpy"},
    "losses": {"flax", "jax", "numpy"},
    "report": {"PIL", "matplotlib", "numpy"},
    "published": set(),
}
# Slow or optional libraries, imported inside functions.
LAZY = ("diffusers", "jaxlabs.benchmark.peers", "tensorflow", "tensorflow_datasets", "torch")
LAZY += ("tokenizers", "trackio", "zstandard")

# Modules of this project that are imported inside functions, beside the optional peers: with them
# come libraries that the list of labs, `--help` and a refused flag do not need.
LAZY_MODULES = {
    "jaxlabs.__main__": {"jaxlabs.commands"},
    "jaxlabs.analysis.feature_extractor": {
        "jaxlabs.training.checkpoints",
        "jaxlabs.training.initial_state",
    },
    "jaxlabs.benchmark.worker": {"jaxlabs.training.jax_settings"},
    "jaxlabs.commands": {"jaxlabs.runner.cli"},
    "jaxlabs.labs": {"jaxlabs.runner.lab"},
    "jaxlabs.labs.autoencoder.vae_latents": {"jaxlabs.training.trainer"},
    "jaxlabs.runner.doctor": {"jaxlabs.runner.machine"},
    "jaxlabs.runner.cli": {
        "jaxlabs.runner.modes",
        "jaxlabs.runner.reproduce",
        "jaxlabs.runner.sweeps",
    },
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.glob("jaxlabs/**/*.py"), *ROOT.glob("experiments/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """Yields all statements below a node; those inside functions only if `lazy`.

    Imports for type checkers alone, in `if TYPE_CHECKING`, do not count.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        if lazy or not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from statements(child, lazy=lazy)


@functools.cache
def imported_names(module: str, *, lazy: bool = True) -> frozenset[str]:
    """Returns the imports of a module by full name; if `lazy`, also those inside functions."""
    return names_in(statements(ast.parse(MODULES[module].read_text()), lazy=lazy))


def names_inside_functions(module: str) -> frozenset[str]:
    """Returns the imports inside the functions of a module by full name."""
    functions = ast.walk(ast.parse(MODULES[module].read_text()))
    bodies = [ast.walk(node) for node in functions if isinstance(node, ast.FunctionDef)]
    return names_in(itertools.chain(*bodies))


def names_in(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Returns what the import statements among some nodes import, by full name."""
    names = set()
    for node in nodes:
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
    """Returns the key of MAY_IMPORT that a module belongs to: the one with the longest name."""
    names = [
        (len(prefix), layer)
        for layer in MAY_IMPORT
        for prefix in (layer, f"jaxlabs.{layer}", *ELSEWHERE.get(layer, []))
        if within(module, prefix)
    ]
    return max(names)[1] if names else None


LAYER_OF = {module: layer_of(module) for module in set(MODULES) - PACKAGES if layer_of(module)}


def test_every_module_belongs_to_a_layer():
    missing = set(MODULES) - set(LAYER_OF) - PACKAGES
    assert not missing, f"add these to MAY_IMPORT: {sorted(missing)}"


def test_modules_import_only_from_allowed_layers():
    violations = [
        f"{module} ({layer}) imports {name}"
        for module, layer in LAYER_OF.items()
        for name in sorted(imported_names(module) & set(LAYER_OF))
        if LAYER_OF[name] not in MAY_IMPORT[layer] | {layer}
    ]
    assert not violations, "\n".join(violations)


def test_labs_import_no_other_lab():
    violations = [
        f"{module} imports {name}"
        for module in MODULES
        if within(module, "jaxlabs.labs") and module != "jaxlabs.labs"
        for name in imported_names(module)
        if within(name, "jaxlabs.labs") and name.split(".")[2] != module.split(".")[2]
    ]
    assert not violations, "\n".join(violations)


def test_packages_of_several_layers_import_nothing():
    assert not [package for package in PACKAGES if imported_names(package) & set(MODULES)]


def test_imports_have_no_cycle():
    graph = {module: imported_names(module, lazy=False) & set(MODULES) for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_only_these_modules_are_imported_inside_functions():
    ours = {name for name in MODULES if not within(name, "jaxlabs.benchmark.peers")}
    found = {module: names_inside_functions(module) & ours for module in MODULES}
    assert {module: names for module, names in found.items() if names} == LAZY_MODULES


def test_the_reading_path_of_the_gpt_is_short():
    """Its model and all layers and models below it, without the kernels for CPUs."""

    def is_read(name: str) -> bool:
        read = within(name, "jaxlabs.layers") or within(name, "jaxlabs.models")
        return name in MODULES and read and not within(name, "jaxlabs.layers.cpu")

    path, waiting = set(), {"jaxlabs.models.transformer_lm"}
    while waiting:
        path |= waiting
        waiting = {name for each in waiting for name in imported_names(each) if is_read(name)}
        waiting -= path
    lines = {name: len(MODULES[name].read_text().splitlines()) for name in path}
    assert {"jaxlabs.layers.masks", "jaxlabs.layers.multi_head_attention"} < path
    assert sum(lines.values()) <= 1450, lines


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
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["peers"], *extras["text"], *extras["trackio"]]
    lines += extras["grain"]
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in lines}
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
    imports = [
        f"import {module}" for module in MODULES if not within(module, "jaxlabs.benchmark.peers")
    ]
    report = ["import sys", f"print([name for name in {LAZY} if name in sys.modules])"]
    result = run_without_backend("\n".join(imports + report))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_creating_an_array_without_a_platform_fails():
    result = run_without_backend("import jax.numpy as jnp; jnp.zeros(())")
    assert result.returncode != 0
    assert "none_such" in result.stderr
