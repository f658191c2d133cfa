"""Formats benchmark rows: the printed table, metrics, and the arrays of the report."""

import itertools
from collections.abc import Sequence

import numpy as np

from jaxlabs.benchmark.timing import FLOAT32, OURS, Row
from jaxlabs.run_folder import RunFolder

HEADINGS = ("", "time", "compile", "peak", "GFLOP/s", "of peak", "same", "any")
WIDTHS = (31, 9, 8, 8, 8, 7, 6, 6)

LEGEND = """\
time: median over repeats, interleaved, after warm-up.
compile: extra time of the first call.
peak: peak memory of the process beyond the import of its package.
GFLOP/s: matmuls and convolutions of the traced forward pass, times three for a training step \
(attention: of the visible scores).
of peak: fraction of the peak matmul rate in the same precision, measured in the same run.
same, any: time relative to the fastest peer of the same precision, and of any; below 1 is faster.
"highest" is strict float32, "default" the precision of the accelerator, such as TF32. "bfloat16"
multiplies in bfloat16 and accumulates in float32.
"""


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a text table, by group."""
    lines = []
    for (suite, variant), group in itertools.groupby(
        rows, lambda row: (row["suite"], row["variant"])
    ):
        group = list(group)
        lines += ["", f"{suite}, {variant}: {group[0]['size']}", _line(HEADINGS)]
        for row in group:
            name = f"{row['framework']} {row['mode']} {row['precision']}"
            if row["skipped"]:
                lines.append(f"  {name:{WIDTHS[0]}}  {row['skipped']}")
            else:
                lines.append(_line((name, *_cells(row))))
            if remarks := _remarks(row):
                lines.append(f"    {remarks}")
    return "\n".join(lines[1:])


def _remarks(row: Row) -> str:
    values = row["metrics"]
    if row["precision"] == "bfloat16" and values.get("bfloat16_matmuls") == 0:
        return "(float32 matmuls: bfloat16 was not faster on this machine)"
    shown = [name for name in ("cost", "iterations") if name in values]
    return ", ".join(f"{name} {values[name]:.6g}" for name in shown)


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    aligned = [f"{cell:>{width}}" for cell, width in zip(others, WIDTHS[1:], strict=True)]
    return f"  {first:{WIDTHS[0]}}" + " ".join(aligned)


def _cells(row: Row) -> list[str]:
    beyond = row["peak_memory_bytes"] - row["base_memory_bytes"]
    return [
        duration(row["seconds"]),
        f"{row['compile_seconds']:.1f} s",
        f"{beyond / 2**20:,.0f} M",
        _number(row["flops_per_second"], 1e-9, ".1f"),
        _number(row["matmul_fraction"], 100, ".0f", " %"),
        _number(row["ratio_to_best_peer"], 1, ".2f"),
        _number(row["ratio_to_best_peer_any"], 1, ".2f"),
    ]


def _number(value: float | None, scale: float, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value * scale:{form}}{unit}"


def duration(seconds: float) -> str:
    """Formats a time in s, ms or µs."""
    if seconds >= 99.95:
        return f"{seconds:,.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 0.9995:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Returns our times and ratios by name."""
    values = {}
    for row in rows:
        if row["framework"] == OURS and row["seconds"]:
            name = f"{row['suite']}_{row['variant']}_{row['mode']}_{row['precision']}"
            name = name.replace(", ", "_").replace(" ", "_")
            values[f"{name}_seconds"] = row["seconds"]
            for kind in ("ratio_to_best_peer", "ratio_to_best_peer_any"):
                if row[kind] is not None:
                    values[f"{name}_{kind}"] = row[kind]
    return values


def write_arrays(rows: Sequence[Row], folder: RunFolder) -> None:
    """Writes the report's arrays: time ratios, and time and memory against length."""
    excluded = ("matmul", "window_attention")  # the peak rate, and the one with its own figure
    ratios = [row for row in rows if row["ratio_to_best_peer_any"] and row["suite"] not in excluded]
    if any(row["framework"] == OURS for row in ratios):
        folder.write_arrays(
            "benchmark_ratios",
            group=[f"{row['suite']}, {row['variant']}" for row in ratios],
            framework=[row["framework"] for row in ratios],
            precision=[row["precision_class"] for row in ratios],
            ratio=[row["ratio_to_best_peer_any"] for row in ratios],
        )
    lengths = [row for row in rows if row["suite"] == "window_attention" and row["seconds"]]
    if lengths:
        kinds, tokens = zip(*(row["variant"].split(", ") for row in lengths), strict=True)
        folder.write_arrays(
            "window_attention",
            case=[_case_name(row, kind) for row, kind in zip(lengths, kinds, strict=True)],
            length=[int(count.split()[0]) for count in tokens],
            seconds=[row["seconds"] for row in lengths],
            memory=np.array(
                [row["peak_memory_bytes"] - row["base_memory_bytes"] for row in lengths]
            ),
        )


def _case_name(row: Row, kind: str) -> str:
    who = row["framework"] if row["framework"] == OURS else f"{row['framework']} {row['mode']}"
    precision = "" if row["precision"] in ("highest", FLOAT32) else f", {row['precision']}"
    return f"{who}, {kind}{precision}"
