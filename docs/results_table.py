"""Tables of results.md, from a results.json that `experiments.reproduce` wrote.

    python docs/results_table.py

writes them into results.md.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxlabs.report.formatting import format_duration, format_value

HERE = Path(__file__).parent
BEGIN, END = "<!-- results.json -->\n", "<!-- end of results.json -->\n"


def markdown(results: Mapping[str, Any]) -> str:
    """Returns dates, machines, metrics and commands as Markdown."""
    rows = results["results"]
    lines = [f"- Dates (UTC): {' to '.join(results['dates'])}"]
    for machine in results["machines"]:
        labs = ", ".join(f"`{lab}`" for lab in machine["labs"])
        lines += textwrap.wrap(f"- {machine['machine']}: {labs}", 120, subsequent_indent="  ")
    columns = ("lab", "metric", "ours", "std", "seeds", "published", "published result")
    lines += ["", *_table(columns, map(_metric, rows))]
    reasons = {
        (row["lab"], row["not_comparable_reason"]) for row in rows if row["not_comparable_reason"]
    }
    lines += ["", *(f"- \\* `{lab}`: not comparable: {why}" for lab, why in sorted(reasons))]
    lines += [f"- Failed: {row['run']}: {row['reason']}" for row in results["failures"]]
    commands = {
        row["lab"]: (f"`{row['lab']}`", format_duration(row["seconds"]), f"`{row['command']}`")
        for row in rows
    }
    lines += ["", *_table(("lab", "time", "command"), commands.values())]
    return "\n".join(lines) + "\n"


def _metric(row: Mapping[str, Any]) -> Sequence[str]:
    known = row["published"] is not None
    name = row["metric"].replace("_", " ") + (f" ({row['unit']})" if row["unit"] else "")
    return (
        *(f"`{row['lab']}`", name, format_value(row["ours"]), format_value(row["std"])),
        str(row["seeds"]),
        format_value(row["published"], as_stated=True)
        + ("\\*" if row["not_comparable_reason"] else ""),
        row["quantity"] if known else "—",
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    return [f"| {' | '.join(row)} |" for row in escaped]


if __name__ == "__main__":
    page, stored = HERE / "results.md", json.loads((HERE / "results.json").read_text())
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + "\n" + markdown(stored) + "\n" + END + rest.partition(END)[2])
