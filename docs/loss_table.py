"""The losses of a run at its evaluations, as a table of results.md.

`python docs/loss_table.py runs/gpt-reference`, for complete and for interrupted runs.
"""

import sys
from collections.abc import Iterator

import numpy as np

from jaxlabs.report.curves import Rows, humanize, series
from jaxlabs.run_folder import RunFolder

STEPS_AVERAGED = 50


def table(rows: Rows) -> Iterator[str]:
    """Yields the lines of a table: a row per evaluation, a column per split."""
    splits = list(dict.fromkeys(row["split"] for row in rows if row["split"] != "train"))
    columns = ["step", "hours", f"training, mean of {STEPS_AVERAGED} steps"]
    columns += [humanize(split) for split in splits]
    steps, losses = series(rows, "train", "loss")
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for step in sorted({row["step"] for row in rows if row["split"] in splits}):
        evaluated = {row["split"]: row for row in rows if row["step"] == step}
        recent = losses[(steps > step - STEPS_AVERAGED) & (steps <= step)]
        yield _line(
            [
                f"{step:,}",
                f"{evaluated[splits[0]]['seconds'] / 3600:.1f}",
                f"{np.mean(recent):.3f}" if recent.size else "",
                *(f"{evaluated[split]['loss']:.4f}" for split in splits),
            ]
        )


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join(table(RunFolder(sys.argv[1]).read_metrics())))
