"""Results of all labs in one table, as Markdown and as a section of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.formatting import format_duration, format_value

JsonObject = Mapping[str, Any]

COLUMNS = ("lab", "quantity", "published", "ours", "ratio", "seeds", "time", "command")


def markdown(summary: JsonObject) -> str:
    """Returns results.md: date, machine, versions, the table, footnotes and failures."""
    reasons = _reasons(summary)
    lines = [f"# Results, preset {summary['preset']}", "", *_run_info(summary), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in summary["results"]:
        cells = [f"`{row['lab']}`, {_preset(row)}", *_cells(row, reasons), f"`{row['command']}`"]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines += ["", *_notes(reasons)]
    lines += [f"- Failed: {row['run']}: {row['reason']}" for row in summary["failures"]]
    return "\n".join(lines).rstrip() + "\n"


def section(summary: JsonObject) -> str:
    """Returns the same as a section of the page, or nothing if there are no results."""
    found = summary.get("results", [])
    if not found:
        return ""
    reasons, previous = _reasons(summary), ""
    rows = []
    for row in found:
        name = html.text(f"{row['lab']}, {_preset(row)}")
        if row["command"] != previous:
            previous = row["command"]
            name += f'<p class="note"><code>{html.text(previous)}</code></p>'
        rows.append([name, *map(html.text, _cells(row, reasons))])
    columns = COLUMNS[:-1]
    table = html.table(columns, rows, numbers=columns[2:], cards=True)
    notes = [html.note(line.removeprefix("- ")) for line in _notes(reasons)]
    failures = [html.note(f"Failed: {row['run']}: {row['reason']}") for row in summary["failures"]]
    info = [html.note(line.removeprefix("- ")) for line in _run_info(summary)]
    return html.section("results", "Results of the labs", *info, table, *notes, *failures)


def _run_info(summary: JsonObject) -> list[str]:
    several = len(summary["machines"]) > 1
    lines = [f"- Run on {' to '.join(summary['dates'])} (UTC)."] if summary["dates"] else []
    for row in summary["machines"]:
        who = f"{', '.join(row['labs'])}: " if several else ""
        lines.append(f"- {who}{row['machine']}.")
    times = "Times are training times per run; for a study, the time of all measurements."
    return [*lines, f"- {times}"]


def _preset(row: JsonObject) -> str:
    return f"{row['preset']}" + (f" ({row['preset_note']})" if row["preset_note"] else "")


def _cells(row: JsonObject, reasons: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns the cells of the columns from quantity to time."""
    stated = format_value(row["published"], row["unit"], as_stated=True)
    if not row["comparable"] and row["published"] is not None:
        stated += f" [{reasons[row['lab'], row['not_comparable_reason']]}]"
    ours = format_value(row["ours"], row["unit"])
    if None not in (row["ours"], row["std"]):
        ours += f" ± {format_value(row['std'], row['unit'])}"
    ratio = "—" if row["ratio"] is None else f"{row['ratio']:.3f}"
    time = format_duration(row["seconds"])
    return [row["quantity"], stated, ours, ratio, str(row["seeds"]), time]


def _reasons(summary: JsonObject) -> dict[tuple[str, str], int]:
    """Numbers the reasons why results are not comparable, by (lab, reason)."""
    found = [
        (row["lab"], row["not_comparable_reason"])
        for row in summary["results"]
        if not row["comparable"] and row["published"] is not None
    ]
    return {reason: number for number, reason in enumerate(dict.fromkeys(found), start=1)}


def _notes(reasons: Mapping[tuple[str, str], int]) -> Sequence[str]:
    return [f"- [{number}] {lab}: not comparable: {why}" for (lab, why), number in reasons.items()]
