"""Where a lab comes from, as config.json stores it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
