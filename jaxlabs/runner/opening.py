"""Opening a run folder for writing: a new run, a resumed run, or one that is overwritten."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Invocation, StudyData
from jaxlabs.runner.summary import describe
from jaxlabs.training.devices import is_main_process
from jaxlabs.training.jax_settings import require_same_compiler_flags
from jaxlabs.training.run_config import OTHER_CONTENTS, CommonConfig, differing


@contextlib.contextmanager
def open_run(
    request: Invocation,
    config: CommonConfig,
    data: DataModule | StudyData | None = None,
    tuned: Mapping[str, str] | None = None,
) -> Iterator[RunFolder]:
    """Opens and locks the run folder for writing; only process 0 of several writes.

    A run without results (refused or killed early) is replaced.

    Args:
      request: the command line.
      config: its settings.
      data: the data of the run, if any.
      tuned: settings that a new run has tuned for this machine; a resumed run keeps its own.

    Raises:
      UserError: the folder cannot be written, is locked by another process, holds another run, or
        holds files that belong to no run.
    """
    folder, main = request.folder(), is_main_process()
    if not request.overwrite:
        folder.require_own()
    elif main:
        _require_run_or_empty(folder)
    if main:
        folder.create()
    with folder.writer() if main else contextlib.nullcontext():
        if request.overwrite and main:
            folder.clear()  # under the lock: a run that is being written is not deleted
        if folder.exists() and folder.has_results() and not request.overwrite:
            stored = folder.read_config()
            check_same_run(stored, request, config, data)
            if "compiler_flags" in stored:
                require_same_compiler_flags(stored["compiler_flags"])
        elif main:
            folder.write_config(describe(request, config, data) | {"tuned": dict(tuned or {})})
        yield folder


def check_same_run(
    stored: dict[str, Any],
    request: Invocation,
    config: CommonConfig,
    data: DataModule | StudyData | None,
) -> None:
    """Raises UserError unless a stored run has the same lab, settings and data."""
    require_lab(stored, request)
    present = {"settings": config.flat(), "dataset": data.dataset if data else None}
    words = differing(type(config), stored, present)
    if words and words[-1] == OTHER_CONTENTS and data.warning:
        words[-1] += f" ({data.warning})"
    if stored.get("sweep") != request.sweep:
        words.append(f"sweep ({stored.get('sweep')} there, {request.sweep} here)")
    if words:
        raise UserError(
            f"--workdir: the run there has other settings: {', '.join(words)};"
            " use the same ones, another --workdir, or --overwrite"
        )


def require_lab(stored: dict[str, Any], request: Invocation) -> None:
    """Raises UserError unless a stored run belongs to the lab of the command line."""
    if stored["experiment"] != request.lab.name:
        writes = request.mode in ("train", "lr_range")
        accepted = "another folder, or --overwrite" if writes else "another folder"
        raise UserError(f"--workdir: a run of {stored['experiment']} is there; {accepted}")


def _require_run_or_empty(folder: RunFolder) -> None:
    """Raises UserError if a folder has files that belong to no run: these are never deleted."""
    if folder.contents() and not folder.exists():
        raise UserError(
            f"--overwrite: {folder.path} is not a run folder and not empty; an empty or new folder"
        )
