"""The section of the page that lists worked problems, and where the write-up slips."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.formatting import format_value

Facts = Mapping[str, Any]

COLUMNS = ("problem", "write-up", "ours", "exact", "difference")


def problems(summary: Facts) -> str:
    """Returns the tables of worked problems: where the write-up slips, then all by theme."""
    if "problems" not in summary:
        return ""
    found, statements = summary["problems"], summary.get("statements", [])
    told = (
        f"{len(found)} numbers, each computed by this project's functions (ours) and by a closed "
        "form (exact). A number of the write-up with “by its formula” is not printed there: it is "
        "what its formula gives for these inputs."
    )
    themes = dict.fromkeys(row["theme"] for row in found)
    folds = [
        html.details(f"{theme}: {len(rows)} numbers", _problem_table(rows), group="problems")
        for theme in themes
        for rows in [[row for row in found if row["theme"] == theme]]
    ]
    slips = _slip_table([row for row in found if row["mark"]])
    return html.section(
        "problems",
        "Worked problems",
        html.note(told),
        "<h3>Where the write-up slips</h3>" if slips else "",
        _counted(summary.get("metrics", {})),
        slips,
        "<h3>What it states in words</h3>" if statements else "",
        _statement_table(statements),
        "<h3>All numbers</h3>",
        *folds,
    )


def _counted(metrics: Facts) -> str:
    if "errors" not in metrics:
        return ""
    return html.note(
        f"{metrics['errors']:g} errors make {metrics['marked']:g} numbers and statements wrong. A "
        "number that is off by its rounding alone is right. This table has the first wrong number "
        "of each error; below, all of them are in bold."
    )


def _problem_table(rows: Sequence[Facts]) -> str:
    cells = [[html.text(row["problem"]), *_problem_values(row)] for row in rows]
    marked = [bool(row["mark"]) for row in rows]
    return html.table(COLUMNS, cells, numbers=COLUMNS[1:], cards=True, marked=marked)


def _slip_table(rows: Sequence[Facts]) -> str:
    """Returns a table of errors, each with the first of the numbers that it makes wrong."""
    numbers = collections.Counter(row["mark"] for row in rows)
    firsts = {row["mark"]: row for row in reversed(rows)}
    cells = []
    for mark, count in numbers.items():
        name = html.text(f"{firsts[mark]['theme']}: {firsts[mark]['problem']}")
        name += html.note(mark + (f" {count} numbers are wrong by it." if count > 1 else ""))
        cells.append([name, *_problem_values(firsts[mark])])
    return html.table(COLUMNS, cells, numbers=COLUMNS[1:], cards=True)


def _problem_values(row: Facts) -> list[str]:
    stated = html.text(row.get("printed") or format_value(row["write_up"]))
    if row["write_up_from"] == "formula":
        stated += html.note("by its formula")
    return [stated, *(html.text(format_value(row[key])) for key in COLUMNS[2:])]


def _statement_table(statements: Sequence[Facts]) -> str:
    columns = ["theme", "write-up", "what holds", "verdict"]
    cells = [
        [
            *(html.text(statement[key]) for key in ("theme", "printed", "right")),
            "error" if statement["error"] else "right",
        ]
        for statement in statements
    ]
    return html.table(columns, cells, cards=True)
