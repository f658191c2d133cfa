"""The tables of performance.md from finished benchmarks.

`python docs/benchmark_table.py runs/a runs/b` prints, for each precision, our time, those of
PyTorch, the ratio to its best mode of the same precision, and the shares of the peak matmul rate.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxlabs.benchmark.format import duration
from jaxlabs.benchmark.timing import BFLOAT16, FLOAT32, OURS

Row = dict[str, Any]
HEADINGS = (
    "work",
    "ours",
    "PyTorch, eager",
    "PyTorch, compiled",
    "ratio",
    "of peak",
    "PyTorch, of peak",
)


def main() -> None:
    """Prints a table per precision."""
    runs = [_rows(Path(folder)) for folder in sys.argv[1:]]
    for precision in (FLOAT32, BFLOAT16):
        print(f"\n### {precision}\n")
        lines = (cells for rows in runs for cells in table(rows, precision))  # peers of one run
        for cells in (HEADINGS, ["---"] * len(HEADINGS), *lines):
            print(f"| {' | '.join(cells)} |")


def _rows(folder: Path) -> list[Row]:
    return json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))["rows"]


def table(rows: list[Row], precision: str) -> Iterator[tuple[str, ...]]:
    """Yields the cells of a line for every case of ours in a precision."""
    for row in rows:
        requested = "bfloat16" if precision == BFLOAT16 else "highest"
        if row["framework"] != OURS or row["precision"] != requested or row["suite"] == "matmul":
            continue
        peers = {
            peer["mode"]: peer
            for peer in rows
            if peer["framework"] == "pytorch"
            and peer["precision"] == precision
            and (peer["suite"], peer["variant"]) == (row["suite"], row["variant"])
        }
        best = min(
            (peer for peer in peers.values() if peer["seconds"]),
            key=lambda peer: peer["seconds"],
            default=None,
        )
        name = f"{row['suite']}, {row['variant']}"
        if row["suite"] == "start":
            name += f", {row['mode']}"
        elif row["suite"] != "window_attention":
            name += f": {row['size']}"
        yield (
            name,
            _seconds(row),
            *(_seconds(peers.get(mode)) for mode in ("eager", "compiled")),
            "" if best is None or not row["seconds"] else f"{row['seconds'] / best['seconds']:.2f}",
            _share(row),
            _share(best),
        )


def _seconds(row: Row | None) -> str:
    return duration(row["seconds"]) if row and row["seconds"] else ""


def _share(row: Row | None) -> str:
    return f"{row['matmul_fraction']:.0%}" if row and row["matmul_fraction"] else ""


if __name__ == "__main__":
    main()
