"""What all labs have found in one table: as Markdown, and as a section of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.formatting import format_duration, format_value

Facts = Mapping[str, Any]

COLUMNS = ("lab", "quantity", "published", "ours", "ratio", "seeds", "time", "command")


def markdown(summary: Facts) -> str:
    """Returns results.md: date, machine and versions, the table, reasons, and what failed."""
    reasons = _reasons(summary)
    lines = [f"# Results, preset {summary['preset']}", "", *_circumstances(summary), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in summary["results"]:
        cells = [f"`{row['lab']}`, {_preset(row)}", *_cells(row, reasons), f"`{row['command']}`"]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines += ["", *_notes(reasons)]
    lines += [f"- Failed: {row['run']}: {row['why']}" for row in summary["failures"]]
    return "\n".join(lines).rstrip() + "\n"


def section(summary: Facts) -> str:
    """Returns the same as a section of the page, or nothing for a run that is no collection."""
    found = summary.get("results", [])
    if not found:
        return ""
    reasons, said = _reasons(summary), ""
    rows = []
    for row in found:
        name = html.text(f"{row['lab']}, {_preset(row)}")
        if row["command"] != said:
            said = row["command"]
            name += f'<p class="note"><code>{html.text(said)}</code></p>'
        rows.append([name, *map(html.text, _cells(row, reasons))])
    columns = COLUMNS[:-1]
    table = html.table(columns, rows, numbers=columns[2:], cards=True)
    notes = [html.note(line.removeprefix("- ")) for line in _notes(reasons)]
    failures = [html.note(f"Failed: {row['run']}: {row['why']}") for row in summary["failures"]]
    told = [html.note(line.removeprefix("- ")) for line in _circumstances(summary)]
    return html.section("results", "What the labs found", *told, table, *notes, *failures)


def _circumstances(summary: Facts) -> list[str]:
    several = len(summary["machines"]) > 1
    lines = [f"- Run on {' to '.join(summary['dates'])} (UTC)."] if summary["dates"] else []
    for row in summary["machines"]:
        who = f"{', '.join(row['labs'])}: " if several else ""
        lines.append(f"- {who}{row['machine']}.")
    return [*lines, "- Times are those of training, or of all measurements of a study, per run."]


def _preset(row: Facts) -> str:
    return f"{row['preset']}" + (f" ({row['preset_note']})" if row["preset_note"] else "")


def _cells(row: Facts, reasons: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns the cells from the figure to the time."""
    stated = format_value(row["published"], row["unit"], as_stated=True)
    if not row["comparable"] and row["published"] is not None:
        stated += f" [{reasons[row['lab'], row['not_comparable_reason']]}]"
    ours = format_value(row["ours"], row["unit"])
    if None not in (row["ours"], row["deviation"]):
        ours += f" ± {format_value(row['deviation'], row['unit'])}"
    ratio = "—" if row["ratio"] is None else f"{row['ratio']:.3f}"
    return [row["quantity"], stated, ours, ratio, str(row["seeds"]), format_duration(row["seconds"])]


def _reasons(summary: Facts) -> dict[tuple[str, str], int]:
    """Numbers the reasons why figures cannot be compared, by (lab, reason)."""
    found = [
        (row["lab"], row["not_comparable_reason"])
        for row in summary["results"]
        if not row["comparable"] and row["published"] is not None
    ]
    return {reason: number for number, reason in enumerate(dict.fromkeys(found), start=1)}


def _notes(reasons: Mapping[tuple[str, str], int]) -> Sequence[str]:
    return [f"- [{number}] {lab}: not comparable: {why}" for (lab, why), number in reasons.items()]
