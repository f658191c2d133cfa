"""The first import of matplotlib, which nothing in the user's environment can make fail.

While it is imported, matplotlib reads the name of a backend (`MPLBACKEND`, which a notebook leaves
to all commands that it starts), a file of settings, and its cache folder. Where one of them is not
as it expects, it fails or warns. Figures here are rendered by Agg in a style of their own and need
none of them. So they are read afterwards, as far as they can be, for whoever else uses matplotlib
in this process.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path


def load() -> None:
    """Imports matplotlib, unless that has been done; call it before any other import of it."""
    if "matplotlib" in sys.modules:
        return
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    bundled = str(package / "mpl-data" / "matplotlibrc")
    with _no_warnings(), _variables(MPLBACKEND=None, MATPLOTLIBRC=bundled):
        import matplotlib

        # A temporary folder where the user's is not writable; fontconfig, which is asked for the
        # list of fonts, would complain of that too.
        with _variables(XDG_CACHE_HOME=matplotlib.get_cachedir()):
            import matplotlib.font_manager

    with _no_warnings(), contextlib.suppress(OSError, ValueError):
        path = matplotlib.matplotlib_fname()
        settings = matplotlib.rc_params_from_file(path, use_default_template=False)
        matplotlib.rcParams.update(settings)
    if backend := os.environ.get("MPLBACKEND"):
        with contextlib.suppress(ValueError):  # it is not installed
            matplotlib.rcParams["backend"] = backend


@contextlib.contextmanager
def no_log() -> Iterator[None]:
    """Keeps back what matplotlib logs: warnings about files, folders and fonts."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with no_log(), warnings.catch_warnings(action="ignore"):
        yield


@contextlib.contextmanager
def _variables(**values: str | None) -> Iterator[None]:
    """Sets environment variables, or with None takes them away, and puts them back."""
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
