"""The tables of results.md, from a results.json that `experiments.reproduce` wrote."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxlabs.report.numbers import duration, figure


def markdown(results: Mapping[str, Any]) -> str:
    """Returns dates and machines, the metrics, and the commands, as Markdown."""
    rows = results["results"]
    lines = [f"- Dates (UTC): {' to '.join(results['dates'])}"]
    for machine in results["machines"]:
        lines.append(f"- {', '.join(f'`{lab}`' for lab in machine['labs'])}: {machine['machine']}")
    lines += [
        "",
        *_table(("lab", "metric", "unit", "published", "ours", "std", "seeds"), map(_metric, rows)),
    ]
    reasons = {(row["lab"], row["why_not"]) for row in rows if row["why_not"]}
    lines += ["", *(f"\\* `{lab}`: not comparable: {why}" for lab, why in sorted(reasons))]
    commands = {
        row["lab"]: (f"`{row['lab']}`", duration(row["seconds"]), f"`{row['command']}`")
        for row in rows
    }
    lines += ["", *_table(("lab", "time", "command"), commands.values())]
    lines += [f"- Failed: {row['run']}: {row['why']}" for row in results["failures"]]
    return "\n".join(lines) + "\n"


def _metric(row: Mapping[str, Any]) -> Sequence[str]:
    published = figure(row["published"], as_stated=True) + ("\\*" if row["why_not"] else "")
    ours, deviation = figure(row["ours"]), figure(row["deviation"])
    return (
        f"`{row['lab']}`",
        row["figure"],
        row["unit"],
        published,
        ours,
        deviation,
        str(row["seeds"]),
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    heading = [columns, ["---"] * len(columns)]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in (*heading, *rows)
    ]
