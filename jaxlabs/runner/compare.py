"""Compares finished runs of one lab: a table, verdicts in words, and a page with curves.

A folder is that of a run, or of a sweep, which stands for its runs. Runs that differ only in the
seed are one group; the other groups are compared with the first one. The verdict at equal steps is
about the last evaluated step that all runs share, the one at equal time about the training time of
the shortest run, with values interpolated between evaluations.
"""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.report import compare as page
from jaxlabs.report.curves import humanize, series
from jaxlabs.report.formatting import format_duration
from jaxlabs.runner import finished_runs
from jaxlabs.runner.finished_runs import FinishedRun, Group, Run
from jaxlabs.runner.lab import Experiment
from jaxlabs.runner.sweep_plan import compare_groups
from jaxlabs.runner.verdict import Verdict, verdicts
from jaxlabs.training.run_config import EVAL_TOKENS

OUTPUT = "compare.html"

BITS_PER_BYTE = "_bits_per_byte"
"""End of the name of the metrics that compare runs with different tokenizers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or of a sweep")
    parser.add_argument(
        "--metric", help="<split>_<name>, or another final metric; default: the monitored loss"
    )
    parser.add_argument("--lab", help="present path of the lab's file, if it has moved")
    parser.add_argument("--output", default=OUTPUT, help=f"the page; default: {OUTPUT}")


def run(options: argparse.Namespace) -> int:
    """Prints the comparison and writes the page."""
    output = paths.local(options.output, "output")
    comparison = compare(options.runs, metric=options.metric, lab=options.lab)
    print(comparison)
    print(f"page: {comparison.write(output)}")
    return 0


@dataclasses.dataclass(frozen=True)
class GroupStatistics:
    """The metric of one group of runs.

    Attributes:
      seeds: seeds of its runs.
      values: the metric of each; nan for a run that diverged.
      mean: their mean.
      std: their sample standard deviation; None for one seed.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    std: float | None

    def __str__(self) -> str:
        std = "" if self.std is None else f" ± {self.std:.2g}"
        return f"{self.mean:.4f}{std}"


@dataclasses.dataclass(frozen=True)
class Basis:
    """One way to compare: at equal steps, at equal time, or at the end of training.

    Attributes:
      name: in words, such as "at step 900".
      statistics: the metric of every group.
      verdicts: one for every group but the first.
    """

    name: str
    statistics: Sequence[GroupStatistics]
    verdicts: Sequence[Verdict]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of some runs; it shows itself as a table, and in a notebook with its curves.

    Attributes:
      lab: name of the lab.
      metric: name of the metric.
      groups: the groups, the first of which the others are compared with.
      bases: the ways to compare, each with its statistics and verdicts.
      notes: what could not be compared, or is limited, in words.
    """

    lab: str
    metric: str
    groups: Sequence[Group]
    bases: Sequence[Basis]
    notes: Sequence[str]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Returns the columns, and the rows of the groups, as text."""
        columns = ["group", "settings", "seeds", *(basis.name for basis in self.bases), "time"]
        rows = [
            [group.name, group.description, str(len(group.runs))]
            + [str(basis.statistics[index]) for basis in self.bases]
            + [format_duration(group.seconds)]
            for index, group in enumerate(self.groups)
        ]
        return columns, rows

    def sentences(self) -> list[str]:
        """Returns the verdicts and notes."""
        said = [f"{basis.name}: {verdict}" for basis in self.bases for verdict in basis.verdicts]
        return [*said, *self.notes]

    def __str__(self) -> str:
        columns, rows = self.table()
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (columns, *rows)
        ]
        return "\n".join([f"{self.lab}: {humanize(self.metric)}", *lines, *self.sentences()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return page.fragment(self._content(), width=640)

    def write(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes the page and returns its path.

        Raises:
          ValueError: it cannot be written.
        """
        path = paths.local(path, "output")
        document = page.document(self._content()).encode()
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_bytes(document)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            reason = f"{path} cannot be written ({error.strerror}); a path in a writable folder"
            raise ArgumentError("output", reason) from None
        return path

    def _content(self) -> page.Content:
        """Returns what the page shows."""
        columns, rows = self.table()
        split, name = _split_and_name(self.metric, self.groups[0].runs[0])
        curves = {
            f"{group.name}: {group.description}": [
                page.Curve(run.rows, run.summary.get("flops_per_step")) for run in group.runs
            ]
            for group in self.groups
        }
        return page.Content(
            title=f"{self.lab} · comparison",
            columns=columns,
            rows=rows,
            sentences=self.sentences(),
            curves=curves,
            split=split,
            value=name,
            unit=self.groups[0].runs[0].config.get("loss_unit", "nats") if name == "loss" else "",
            folders=[
                (group.name, run.seed, str(run.path)) for group in self.groups for run in group.runs
            ],
        )


def compare(
    runs: Sequence[str | os.PathLike[str] | Run],
    *,
    metric: str | None = None,
    lab: str | os.PathLike[str] | Experiment | None = None,
) -> Comparison:
    """Compares finished runs of one lab.

        jl.compare(["runs/gpt-a", "runs/gpt-b"])

    Args:
      runs: paths of run folders or of folders of sweeps, or runs of `load_run`, in one list.
      metric: `<split>_<name>` of an evaluated split, or another metric of summary.json; None: the
        loss on the monitored split, in bits per byte if the runs have different tokenizers.
      lab: the lab, its name, or the path of its file; None: the one that config.json names.

    Raises:
      ValueError: a run is not finished, or the runs cannot be compared; the message is one line
        that names the run and the reason.
    """
    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise ArgumentError("runs", "expected one list of runs, such as compare([a, b])")
    found, left_out = finished_runs.read(runs, lab)
    metric = metric or _default_metric(found)
    finished_runs.require_comparable(found, any_tokenizer=metric.endswith(BITS_PER_BYTE))
    for run in found:
        _require_metric(run, metric)
    groups = finished_runs.group(found)
    bases, limits = _bases(groups, metric)
    if len({run.settings.get(EVAL_TOKENS) for run in found}) > 1:
        limits.append("--eval_tokens differs: the losses are of different windows of the text")
    return Comparison(found[0].lab.name, metric, groups, bases, [*limits, *left_out])


def _default_metric(runs: Sequence[FinishedRun]) -> str:
    """Returns the monitored loss, in bits per byte if tokenizers differ and all have it."""
    split = runs[0].monitored_split
    bits = f"{split}{BITS_PER_BYTE}"
    known = all(bits in run.summary["metrics"] for run in runs)
    return bits if known and finished_runs.differ_in_tokenizer(runs) else f"{split}_loss"


def _split_and_name(metric: str, run: FinishedRun) -> tuple[str, str]:
    """Returns the split and the name in its rows of a metric; ("", metric) for a final metric."""
    evaluated = dict.fromkeys(row["split"] for row in run.rows if row["split"] != "train")
    for split in evaluated:
        name = metric.removeprefix(f"{split}_")
        if name != metric and series(run.rows, split, name)[0].size:
            return split, name
    return "", metric


def _require_metric(run: FinishedRun, metric: str) -> None:
    found = list(run.summary["metrics"])
    if metric not in found:
        hint = nearest(metric, found) or f"; {', '.join(found)}"
        raise ArgumentError("metric", f"{metric!r} is not a metric of {run.path}{hint}")


def _bases(groups: Sequence[Group], metric: str) -> tuple[list[Basis], list[str]]:
    """Returns the ways in which the runs can be compared, and notes on those in which not."""
    runs = [run for group in groups for run in group.runs]
    split, name = _split_and_name(metric, runs[0])
    steps = {run.summary["steps"] for run in runs}
    if not split:
        values = [run.summary["metrics"][metric] for run in runs]
        notes = ["the runs have different numbers of steps"] if len(steps) > 1 else []
        return [_basis("at the end", groups, values)], notes
    curves = [_curve(run, split, name) for run in runs]
    bases, notes = [], []
    shared = sorted(set.intersection(*(set(steps.tolist()) for steps, *_ in curves)) - {0.0})
    if shared:
        values = [float(found[steps == shared[-1]][0]) for steps, _, found in curves]
        bases.append(_basis(f"at step {shared[-1]:,.0f}", groups, values))
    else:
        notes.append("no evaluated step is common to all runs: no verdict at equal steps")
    devices = [run.config.get("device") for run in runs]
    if any(device != devices[0] for device in devices):
        notes.append("the runs were made on different machines: no verdict at equal time")
        return bases, notes
    end = min(float(seconds[-1]) for _, seconds, _ in curves)
    if end == 0:
        notes.append("a run has not trained: no verdict at equal time")
        return bases, notes
    values = [float(np.interp(end, seconds, found)) for _, seconds, found in curves]
    bases.append(_basis(f"at {format_duration(end)}", groups, values))
    notes += _cut_schedules(groups, end)
    return bases, notes


def _curve(run: FinishedRun, split: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns steps, seconds of training and values `[evaluations]`; nan where not finite.

    Raises:
      UserError: none are logged.
    """
    columns = ("step", "seconds", name)
    rows = [row for row in run.rows if row["split"] == split and row.keys() >= set(columns)]
    if not rows:
        raise UserError(f"{run.path}: metrics.jsonl has no {name} of the split {split}")
    steps, seconds, values = np.array([[row[key] for key in columns] for row in rows], float).T
    return steps, seconds, values


def _cut_schedules(groups: Sequence[Group], seconds: float) -> list[str]:
    """Returns notes on groups that had not come to the end of their schedule."""
    shares = {group.name: seconds / group.seconds for group in groups}
    return [
        f"at {format_duration(seconds)}, {name} had taken {share:.0%} of its steps: a run that is"
        " planned for this time, with its learning rate, would do better"
        for name, share in shares.items()
        if share < 0.9
    ]


def _basis(name: str, groups: Sequence[Group], values: Sequence[float | None]) -> Basis:
    names = [group.name for group in groups for _ in group.runs]
    runs = [run for group in groups for run in group.runs]
    rows = [
        {"point": {"group": group, "seed": run.seed}, "metrics": {"value": value}}
        for group, run, value in zip(names, runs, values, strict=True)
    ]
    compared = compare_groups(rows, ["value"])
    return Basis(name, [_statistics(row) for row in compared], verdicts(compared, "value"))


def _statistics(row: Mapping[str, Any]) -> GroupStatistics:
    """Returns a row of `compare_groups` with the one metric "value"."""
    found = row["metrics"]["value"]
    values = tuple(found["values"])
    return GroupStatistics(tuple(row["seeds"]), values, found["mean"], found["std"])
