"""Opening a run folder to write: new, gone on with, or thrown away and started anew."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlabs.config import UserError
from jaxlabs.data.splits import Data
from jaxlabs.lab import Request
from jaxlabs.run_folder import RunFolder
from jaxlabs.summary import describe
from jaxlabs.training.devices import is_main_process
from jaxlabs.training.jax_settings import require_same_compiler_flags
from jaxlabs.training.run_config import CommonConfig


@contextlib.contextmanager
def opened(
    request: Request,
    config: CommonConfig,
    data: Data | None = None,
    tuned: Mapping[str, str] | None = None,
) -> Iterator[RunFolder]:
    """Holds the folder of a request for writing; only the first of several processes writes.

    Args:
      request: the command line.
      config: its settings.
      data: what it trains on, if it does.
      tuned: what a new run has found best on its machine; an old one keeps what it found.

    Raises:
      UserError: the folder cannot be written, is being written, holds another run, or holds files
        of someone else.
    """
    folder, main = request.folder(), is_main_process()
    if main:
        if request.overwrite:
            _require_run_or_empty(folder)
        folder.create()
    with folder.writer() if main else contextlib.nullcontext():
        if request.overwrite and main:
            folder.clear()  # under the lock: a run that is being written is not thrown away
        if folder.exists() and not request.overwrite:
            stored = folder.read_config()
            require_same(stored, request, config, data)
            if "compiler_flags" in stored:
                require_same_compiler_flags(stored["compiler_flags"])
        elif main:
            folder.write_config(describe(request, config, data) | {"tuned": dict(tuned or {})})
        yield folder


def require_same(
    stored: dict[str, Any], request: Request, config: CommonConfig, data: Data | None
) -> None:
    """Raises UserError unless a stored run is of the same kind, settings and data."""
    if stored["experiment"] != request.lab.name:
        raise UserError(
            f"--workdir: a run of {stored['experiment']} is there; another folder, or --overwrite"
        )
    # What was done before there was a setting is what its default does.
    old = type(config)().identity() | stored["settings"]
    differing = [
        f"{name} ({old[name]} there, {value} here)"
        for name, value in config.identity().items()
        if old[name] != value
    ]
    if stored.get("sweep") != request.sweep:
        differing.append(f"sweep ({stored.get('sweep')} there, {request.sweep} here)")
    if data is not None and stored["dataset"]["sha256"] != data.dataset["sha256"]:
        differing.append("the data set's contents" + (f" ({data.notice})" if data.notice else ""))
    if differing:
        raise UserError(
            f"--workdir: the run there has other settings: {', '.join(differing)};"
            " use the same ones, another --workdir, or --overwrite"
        )


def _require_run_or_empty(folder: RunFolder) -> None:
    """Raises UserError if a folder has files in it that are no run's: they are left alone."""
    if not folder.exists() and folder.path.is_dir() and any(folder.path.iterdir()):
        raise UserError(
            f"--overwrite: {folder.path} is not a run folder and not empty; an empty or new folder"
        )
