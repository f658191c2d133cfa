"""The documentation site: `sphinx-build -W --keep-going -b html docs build/docs`."""

import json
import pkgutil
import sys
from pathlib import Path

from flax import linen as nn
from sphinx.application import Sphinx

import jaxlabs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from results_table import markdown  # noqa: E402

project = "jaxlabs"
author = "The jaxlabs maintainers"
copyright = f"2026, {author}"
release = version = jaxlabs.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
html_theme = "sphinx_book_theme"
html_title = f"jaxlabs {release}"
html_theme_options = {"show_toc_level": 2}
html_show_sourcelink = False

default_role = "code"  # docstrings mark code with single backticks, as Markdown does
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

REFERENCE = "reference/"
RESULTS = "<!-- results.json -->"


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Completes the pages whose content is stored elsewhere: docstrings, and results.json."""
    if docname == "results":
        stored = HERE / "results.json"
        app.env.note_dependency(str(stored))
        source[0] = source[0].replace(RESULTS, markdown(json.loads(stored.read_text())))
    elif docname.startswith(REFERENCE):
        source[0] += describe_package(f"jaxlabs.{docname.removeprefix(REFERENCE)}")


def describe_package(package: str) -> str:
    """Returns one section per module of a package, as MyST."""
    path = [str(Path(jaxlabs.__file__).parent / package.partition(".")[2])]
    names = [found.name for found in pkgutil.walk_packages(path, f"{package}.") if not found.ispkg]
    return "".join(
        f"\n## {name.removeprefix(f'{package}.')}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
        for name in names
    )


def show_tables(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Marks what a module's docstring indents, tables of shapes and formulas, as literal blocks."""
    if what != "module":
        return
    marked, inside = [], False
    for line in lines:
        if line.startswith("    ") and not inside:
            marked += ["::", ""]
        inside = line.startswith("    ") or (inside and not line)
        marked.append(line)
    lines[:] = marked


def shorten_module_signature(
    app: Sphinx, what: str, name: str, item: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Drops the two arguments that every linen module takes, `parent` and `name`."""
    if what == "class" and isinstance(item, type) and issubclass(item, nn.Module):
        shortened, _, _ = signature.partition(", parent: ")
        return f"{shortened.removesuffix(')')})", returns
    return None


def skip_fields(
    app: Sphinx, what: str, name: str, item: object, skip: bool, options: object
) -> bool | None:
    """Leaves out the fields of a named tuple, which its own docstring describes."""
    alias = (getattr(item, "__doc__", None) or "").startswith("Alias for field number")
    return True if alias else None


def setup(app: Sphinx) -> None:
    """Registers the hooks above."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-docstring", show_tables)
    app.connect("autodoc-process-signature", shorten_module_signature)
    app.connect("autodoc-skip-member", skip_fields)
