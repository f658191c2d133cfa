"""The page's section on worked problems, with the errata of the write-up."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.formatting import format_value

JsonObject = Mapping[str, Any]

COLUMNS = ("problem", "write-up", "ours", "exact", "difference")


def problems(summary: JsonObject) -> str:
    """Returns the tables of worked problems: errata first, then all problems by theme."""
    if "problems" not in summary:
        return ""
    found, statements = summary["problems"], summary.get("statements", [])
    note = (
        f"{len(found)} values, each computed by this project's functions (ours) and in closed form "
        "(exact). “by its formula”: the write-up does not print the value; its formula gives it "
        "for these inputs."
    )
    sections = []
    for theme in dict.fromkeys(row["theme"] for row in found):
        rows = [row for row in found if row["theme"] == theme]
        name, table = f"{theme}: {len(rows)} values", _problem_table(rows)
        sections.append(html.details(name, table, group="problems"))
    errata = _errata_table([row for row in found if row["erratum"]])
    return html.section(
        "problems",
        "Worked problems",
        html.note(note),
        "<h3>Errata of the write-up</h3>" if errata else "",
        _error_count(summary.get("metrics", {})),
        errata,
        "<h3>Statements in words</h3>" if statements else "",
        _statement_table(statements),
        "<h3>All values</h3>",
        *sections,
    )


def _error_count(metrics: JsonObject) -> str:
    if "errors" not in metrics:
        return ""
    return html.note(
        f"{metrics['errors']:g} errors make {metrics['wrong_values_and_statements']:g} values and "
        "statements wrong. Rounding differences do not count. This table has the first wrong value "
        "of each error; the tables below show all of them in bold."
    )


def _problem_table(rows: Sequence[JsonObject]) -> str:
    cells = [[html.text(row["problem"]), *_problem_values(row)] for row in rows]
    wrong = [bool(row["erratum"]) for row in rows]
    return html.table(COLUMNS, cells, numbers=COLUMNS[1:], cards=True, highlighted=wrong)


def _errata_table(rows: Sequence[JsonObject]) -> str:
    """Returns a table of errors, each with the first wrong value."""
    counts = collections.Counter(row["erratum"] for row in rows)
    firsts = {row["erratum"]: row for row in reversed(rows)}
    cells = []
    for erratum, count in counts.items():
        name = html.text(f"{firsts[erratum]['theme']}: {firsts[erratum]['problem']}")
        name += html.note(erratum + (f" Affects {count} values." if count > 1 else ""))
        cells.append([name, *_problem_values(firsts[erratum])])
    return html.table(COLUMNS, cells, numbers=COLUMNS[1:], cards=True)


def _problem_values(row: JsonObject) -> list[str]:
    stated = html.text(row.get("printed") or format_value(row["reference"]))
    if row["reference_from"] == "formula":
        stated += html.note("by its formula")
    return [stated, *(html.text(format_value(row[key])) for key in COLUMNS[2:])]


def _statement_table(statements: Sequence[JsonObject]) -> str:
    columns, cells = ["theme", "write-up", "correct statement", "verdict"], []
    for statement in statements:
        texts = [html.text(statement[key]) for key in ("theme", "printed", "correct")]
        cells.append([*texts, "error" if statement["error"] else "correct"])
    return html.table(columns, cells, cards=True)
