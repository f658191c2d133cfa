"""Where a lab comes from, as config.json stores it, and which files of labs the user has run."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxlabs import paths
from jaxlabs.config import UserError

BUILT_IN, ENTRY_POINT, FILE = "built-in", "entry point", "file"


@dataclasses.dataclass(frozen=True)
class LabSource:
    """Where `jaxlabs.labs.load` found a lab.

    Attributes:
      source: one of `BUILT_IN`, `ENTRY_POINT`, `FILE`.
      name: name of the lab.
      path: absolute path of its file; None for a built-in lab.
      sha256: hash of that file's content; None for a built-in lab.
    """

    source: str
    name: str
    path: str | None = None
    sha256: str | None = None


def changed(stored: Mapping[str, Any], source: LabSource | None) -> str | None:
    """Returns one line if the file of a lab differs from that of a stored run, else None.

    Args:
      stored: config.json of the run.
      source: where the lab comes from now.
    """
    before = stored.get("lab", {}).get("sha256")
    if source is None or source.sha256 is None or before in (None, source.sha256):
        return None
    return f"{source.path} has changed since this run started"


def record(source: LabSource) -> None:
    """Records that the user has run a file, so that stored runs may name it.

    The record is in the user's own folder: run folders, and a shared data folder, can be written
    by others.
    """
    if is_recorded(source):
        return
    with contextlib.suppress(OSError, UserError):  # as without a home directory
        file = _recorded()
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(_line(source) + "\n")


def is_recorded(source: LabSource) -> bool:
    """Returns whether the user has run a file with this path and content."""
    try:
        return _line(source) in _recorded().read_text(encoding="utf-8").splitlines()
    except (OSError, UserError, UnicodeDecodeError):
        return False


def _recorded() -> pathlib.Path:
    folder = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return paths.local(folder, "XDG_STATE_HOME") / "jaxlabs" / "labs.jsonl"


def _line(source: LabSource) -> str:
    return json.dumps([source.path, source.sha256])
