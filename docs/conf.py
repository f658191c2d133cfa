"""The documentation site: `sphinx-build -W --keep-going -b html docs build/docs`."""

import itertools
import pkgutil
import re
from pathlib import Path

from flax import linen as nn
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import jaxlabs

project = "jaxlabs"
author = "The jaxlabs maintainers"
copyright = f"2026, {author}"
release = version = jaxlabs.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_title = f"jaxlabs {release}"
html_theme_options = {"show_toc_level": 2, "navbar_persistent": []}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
highlight_language = "text"

default_role = "code"  # docstrings mark code with single backticks, as Markdown does
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
}
autodoc_inherit_docstrings = False  # without linen's own methods
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them

REFERENCE = "reference/"


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Inserts the docstrings of a package."""
    if docname.startswith(REFERENCE):
        source[0] += describe_package(f"jaxlabs.{docname.removeprefix(REFERENCE)}")


def describe_package(package: str) -> str:
    """Returns one MyST section per module of a package."""
    path = [str(Path(jaxlabs.__file__).parent / package.partition(".")[2])]
    names = [found.name for found in pkgutil.walk_packages(path, f"{package}.") if not found.ispkg]
    return "".join(
        f"\n## {name.removeprefix(f'{package}.')}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
        for name in names
    )


def show_tables(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Marks indented blocks of docstrings (tables, formulas) as literal blocks."""
    if what in ("attribute", "data", "property"):
        lines[:1] = [lines[0].replace(":", r"\ ∶")]  # napoleon parses text before a colon as a type
    marked, inside = [], False
    for previous, line in itertools.pairwise(["", *lines]):
        if line.startswith("    ") and not previous and not inside:
            marked += ["::", ""]
            inside = True
        inside = inside and (not line or line.startswith("    "))
        marked.append(line)
    lines[:] = marked


def shorten_signature(
    app: Sphinx, what: str, name: str, item: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Drops `parent` and `name` of linen modules, and default values that are functions."""
    if not signature:
        return None
    if isinstance(item, type) and issubclass(item, nn.Module):
        signature = re.sub(r", parent: .*\)$", ")", signature)
    return re.sub(r"<(?:function|class)[^,)]*>", "...", signature), returns


def describe_fields(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Adds the comments of a named tuple's fields to its docstring."""
    if what == "class" and hasattr(item, "_fields"):
        comments = ModuleAnalyzer.for_module(item.__module__).find_attr_docs()
        described = [field for field in item._fields if (item.__name__, field) in comments]
        lines += ["", "Attributes:"] * bool(described)
        lines += [f"  {it}: {' '.join(comments[item.__name__, it])}" for it in described]


def skip_fields(
    app: Sphinx, what: str, name: str, item: object, skip: bool, options: object
) -> bool | None:
    """Skips fields of named tuples, which their class docstrings describe."""
    alias = (getattr(item, "__doc__", None) or "").startswith("Alias for field number")
    return True if alias else None


def setup(app: Sphinx) -> None:
    """Registers the hooks above."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-docstring", describe_fields, priority=300)
    app.connect("autodoc-process-docstring", show_tables, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip_fields)
