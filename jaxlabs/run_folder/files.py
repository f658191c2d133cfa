"""Formats and validation of the files of a run folder."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs.run_folder import renamed

CONFIG = {"experiment": str, "preset": str, "settings": dict}
"""Required keys of config.json, with their types."""

OPTIONAL_CONFIG = dict.fromkeys(
    (
        "axes",
        "compiler_flags",
        "dataset",
        "device",
        "init_from",
        "lab",
        "preset_settings",
        "tuned",
        "versions",
    ),
    dict,
)
OPTIONAL_CONFIG |= dict.fromkeys(
    ("command", "loss_unit", "not_comparable_reason", "optimizer", "question", "sweep"), str
)
"""Optional keys of config.json, with their types."""

SUMMARY = {
    "experiment": str,
    "preset": str,
    "metrics": dict,
    "comparison": list,
    "environment": dict,
}
"""Required keys of summary.json, with their types."""

COMPARISON = {"quantity", "metric", "unit", "published", "ours", "source"}
COMPARISON |= {"comparable", "not_comparable_reason", "note"}
"""Required keys of every row of `comparison`."""

OPTIONAL_SUMMARY = {"seed": int, "steps": int, "parameters": int, "baselines": dict}
OPTIONAL_SUMMARY |= dict.fromkeys(("groups", "runs", "results", "problems", "failures"), list)

STEP_SAMPLE = re.compile(r"step-([0-9]{6}|[1-9][0-9]{6,})\.(txt|json|npz)")
"""Names of the samples of training; other files in samples/ belong to the user."""

SEPARATOR = "\n----------\n"
"""Separator of texts in a .txt; a text may contain it, so programs read the .json."""

HEADING = "===== "


@dataclasses.dataclass(frozen=True)
class Texts:
    """A sample of several texts.

    Attributes:
      groups: texts by heading; "" for no heading.
    """

    groups: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        """Returns all texts with separators, each group below its heading."""
        return "\n".join(
            (f"{HEADING}{heading}\n" if heading else "") + SEPARATOR.join(texts)
            for heading, texts in self.groups.items()
        )


TYPES = {str: "a string", int: "an integer", dict: "an object", list: "a list"}


def parse(content: bytes) -> Any:
    """Parses JSON.

    Raises:
      ValueError: the content is not JSON.
    """
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_config(content: Any) -> None:
    """Raises ValueError with the reason unless `content` is a valid config.json."""
    _check(content, CONFIG, OPTIONAL_CONFIG)


def check_summary(content: Any) -> None:
    """Raises ValueError with the reason unless `content` is a valid summary.json."""
    _check(content, SUMMARY, OPTIONAL_SUMMARY)
    for name, value in content["metrics"].items():
        if not _is_number(value):
            raise ValueError(f"its metric {name!r} is not a number")
    for row in content["comparison"]:
        if not isinstance(row, dict) or not row.keys() >= COMPARISON:
            raise ValueError("its 'comparison' has an incomplete row")
    if not _is_number(content.get("seconds", "")):
        raise ValueError("its 'seconds' is missing or not a number")


def parse_rows(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of a metrics.jsonl, and the number of invalid lines.

    Text after the last newline is the incomplete line of a killed run and does not count.
    """
    rows, unreadable = [], 0
    for line in content.split(b"\n")[:-1]:
        try:
            row = parse(line)
        except ValueError:
            row = None
        if _is_row(row):
            rows.append(renamed.row(row))
        else:
            unreadable += 1
    return rows, unreadable


def _check(content: Any, required: Mapping[str, type], optional: Mapping[str, type]) -> None:
    if not isinstance(content, dict):
        raise ValueError("not an object")
    for name, kind in {**required, **optional}.items():
        if name not in content and name in required:
            raise ValueError(f"without {name!r}")
        if not isinstance(content.get(name, kind()), kind):
            raise ValueError(f"its {name!r} is not {TYPES[kind]}")


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not {"step", "split", "loss"} <= row.keys():
        return False
    step, split = row["step"], row["split"]
    rest = [value for name, value in row.items() if name != "split"]
    is_step = isinstance(step, int) and 0 <= step < 2**63
    return is_step and isinstance(split, str) and all(map(_is_number, rest))


def _is_number(value: Any) -> bool:
    """Returns whether a value is a finite float or integer, or null, which is NaN."""
    if value is None:
        return True
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
