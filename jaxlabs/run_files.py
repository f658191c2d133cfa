"""What the files of a run folder must hold to be of use; anything else is damage."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs import renamed

CONFIG = {"experiment": str, "preset": str, "settings": dict}
"""What every config.json has."""

CONFIG_FURTHER = dict.fromkeys(("dataset", "device", "versions", "preset_settings", "tuned"), dict)
CONFIG_FURTHER |= dict.fromkeys(
    ("command", "loss_unit", "not_comparable_reason", "sweep", "question"), str
)
"""What some have."""

SUMMARY = {
    "experiment": str,
    "preset": str,
    "metrics": dict,
    "comparison": list,
    "environment": dict,
}
"""What every summary.json has."""

COMPARED = {"figure", "metric", "unit", "published", "ours", "source"}
COMPARED |= {"comparable", "not_comparable_reason", "note"}
"""What every row of `compared` has."""

SUMMARY_FURTHER = {"seed": int, "steps": int, "parameters": int, "baselines": dict}
SUMMARY_FURTHER |= dict.fromkeys(("groups", "runs", "results", "problems", "failures"), list)

STEP_SAMPLE = re.compile(r"step-([0-9]{6}|[1-9][0-9]{6,})\.(txt|json|npz)")
"""The names of samples drawn during training; other files in samples/ are not the run's."""

RULE = "\n----------\n"
"""Stands between the texts of a sample, for people: a text may hold such a line as well."""

HEADING = "===== "


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts that a model wrote, each by itself.

    Attributes:
      groups: the texts by the heading that they stand under; "" for none.
    """

    groups: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        """Returns all of them to be read: with rules between them, each group under its heading."""
        return "\n".join(
            (f"{HEADING}{heading}\n" if heading else "") + RULE.join(texts)
            for heading, texts in self.groups.items()
        )


TYPES = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}


def parse(content: bytes) -> Any:
    """Returns what a JSON file holds.

    Raises:
      ValueError: its content is not JSON.
    """
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_config(content: Any) -> None:
    """Raises ValueError unless `content` is that of a config.json, and says why."""
    _check(content, CONFIG, CONFIG_FURTHER)


def check_summary(content: Any) -> None:
    """Raises ValueError unless `content` is that of a summary.json, and says why."""
    _check(content, SUMMARY, SUMMARY_FURTHER)
    for name, value in content["metrics"].items():
        if not _is_number(value):
            raise ValueError(f"its metric {name!r} is not a number")
    for row in content["comparison"]:
        if not isinstance(row, dict) or not row.keys() >= COMPARED:
            raise ValueError("its 'comparison' has a row without what belongs there")
    if not _is_number(content.get("seconds", "")):
        raise ValueError("its 'seconds' is missing or not a number")


def parse_rows(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of a metrics.jsonl, and how many lines are no rows.

    What follows the last line end is what a killed run had half written, and does not count.
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


def parse_texts(content: bytes) -> dict[str, list[str]]:
    """Returns the texts by heading that a JSON file holds; raises ValueError where it does not."""
    groups = parse(content)
    if not isinstance(groups, dict) or not groups:
        raise ValueError("not an object of lists")
    for texts in groups.values():
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError("not an object of lists of texts")
    return groups


def _check(content: Any, needed: Mapping[str, type], further: Mapping[str, type]) -> None:
    if not isinstance(content, dict):
        raise ValueError("not an object")
    for name, kind in {**needed, **further}.items():
        if name not in content and name in needed:
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
    """Tells whether a value is a number that a float can hold; null stands for NaN."""
    if value is None:
        return True
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
