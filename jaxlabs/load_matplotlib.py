"""Import of matplotlib that does not depend on the user's environment.

During its import, matplotlib reads the name of a backend (`MPLBACKEND`, which notebooks pass to
child processes), a settings file, and its cache folder, and fails or warns if one is invalid. The
figures of a report are rendered by Agg in their own style and need none of these. So the user's
settings are applied after the import, as far as they are valid, for other uses of matplotlib in the
process.
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
    """Imports matplotlib if it is not imported; call it before any other import of it."""
    if "matplotlib" in sys.modules:
        return
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    bundled = str(package / "mpl-data" / "matplotlibrc")
    with _no_warnings(), _variables(MPLBACKEND=None, MATPLOTLIBRC=bundled):
        import matplotlib

        # A temporary folder if that of the user is not writable; fontconfig, which lists the
        # fonts, would warn about it too.
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
    """Silences the log of matplotlib: warnings about files, folders and fonts."""
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
    """Sets environment variables, or unsets them for None, and restores them."""
    previous = {name: os.environ.pop(name, None) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
