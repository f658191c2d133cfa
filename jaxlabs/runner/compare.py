"""Compares finished runs of one lab: a table, verdicts in words, and a page with curves.

A folder is that of a run, or of a sweep, which stands for its runs. Runs that differ only in the
seed are one group; the other groups are compared with the first one. The verdict at equal steps is
about the last evaluated step that all runs share, the one at equal time about the training time of
the shortest run, with values interpolated between evaluations.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxlabs import labs, paths
from jaxlabs.config import (
    IDENTITY,
    ArgumentError,
    Config,
    UserError,
    canonical,
    nearest,
    settings,
)
from jaxlabs.report import compare as page
from jaxlabs.report.curves import humanize, series
from jaxlabs.report.formatting import format_duration
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.help_text import sections
from jaxlabs.runner.lab import Experiment, Lab
from jaxlabs.runner.sweep_plan import compare_groups, flag_value
from jaxlabs.runner.verdict import Verdict, verdicts
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.run_config import CONTENTS

OUTPUT = "compare.html"


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


class Run(Protocol):
    """What a comparison needs of `jaxlabs.Run`."""

    path: pathlib.Path
    lab: Experiment


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
      path: its folder.
      source: the folder that was given: its own, or that of its sweep.
      lab: its lab.
      config: config.json.
      summary: summary.json.
      rows: rows of metrics.jsonl.
      settings: settings that affect the result, without the seed.
    """

    path: pathlib.Path
    source: pathlib.Path
    lab: Lab
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config["settings"].get("seed", 0)

    @functools.cached_property
    def data_spec(self) -> Mapping[str, Any]:
        """Tokenizer, classes and shapes of its data, from the newest checkpoint; empty without."""
        folder = RunFolder(self.path).checkpoints
        if not folder.is_dir():
            return {}
        with Checkpoints(folder, 1, read_only=True) as checkpoints:
            steps = checkpoints.steps()
            return checkpoints.read_metadata(steps[-1]).get("data_spec", {}) if steps else {}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
      name: a letter.
      settings: the settings that differ between the groups.
      runs: its runs, one for each seed.
    """

    name: str
    settings: Mapping[str, Any]
    runs: Sequence[FinishedRun]

    @property
    def description(self) -> str:
        """The settings that differ, or the folder if none does."""
        words = [f"{name}={flag_value(value)}" for name, value in self.settings.items()]
        return ", ".join(words) or str(self.runs[0].source)

    @property
    def seconds(self) -> float:
        """Mean training time of its runs."""
        return float(np.mean([run.summary["seconds"] for run in self.runs]))


@dataclasses.dataclass(frozen=True)
class Basis:
    """One way to compare: at equal steps, at equal time, or at the end of training.

    Attributes:
      name: in words, such as "at step 900".
      statistics: rows of `compare_groups` by group, with the one metric "value".
      verdicts: one for every group but the first.
    """

    name: str
    statistics: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Verdict]

    def cell(self, index: int) -> str:
        """Returns mean and standard deviation of a group."""
        row = self.statistics[index]["metrics"]["value"]
        deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.2g}"
        return f"{row['mean']:.4f}{deviation}"


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
            + [basis.cell(index) for basis in self.bases]
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
    *others: object,
    metric: str | None = None,
    lab: str | os.PathLike[str] | Experiment | None = None,
) -> Comparison:
    """Compares finished runs of one lab.

        jl.compare(["runs/gpt-a", "runs/gpt-b"])

    Args:
      runs: paths of run folders or of folders of sweeps, or runs of `load_run`, in one list.
      others: not accepted.
      metric: `<split>_<name>` of an evaluated split, or another metric of summary.json; None: the
        loss on the monitored split.
      lab: the lab, its name, or the path of its file; None: the one that config.json names.

    Raises:
      ValueError: a run is not finished, or the runs cannot be compared; the message is one line
        that names the run and the reason.
    """
    found, notes = [], []
    if others or not isinstance(runs, Sequence) or isinstance(runs, str):
        raise ArgumentError("runs", "expected one list of runs, such as compare([a, b])")
    loaded = labs.load(lab) if isinstance(lab, str | os.PathLike) else lab
    for source in runs:
        path = pathlib.Path(getattr(source, "path", source))
        try:
            _expand(path, getattr(source, "lab", loaded), found, notes)
        except ArgumentError as error:
            if error.argument == "workdir":  # no argument of this command
                raise UserError(error.message) from None
            raise
    if not found:
        raise ArgumentError("runs", "empty; at least one run")
    names = [run.path.resolve() for run in found]
    for run, name in zip(found, names, strict=True):
        if names.count(name) > 1:
            raise UserError(f"{run.path}: given twice")
    first = found[0]
    for run in found[1:]:
        _require_comparable(first, run)
    metric = metric or f"{_monitored(first)}_loss"
    for run in found:
        _require_metric(run, metric)
    groups = _grouped(found)
    bases, limits = _bases(groups, metric)
    return Comparison(first.config["experiment"], metric, groups, bases, [*limits, *notes])


def _expand(
    path: pathlib.Path, lab: Experiment | None, found: list[FinishedRun], notes: list[str]
) -> None:
    """Appends the run in a folder, or the runs of a sweep; those without a result are notes.

    Args:
      path: the folder.
      lab: its lab; None: the one that config.json names.
      found: runs so far.
      notes: notes so far.

    Raises:
      UserError: there is no finished run.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    lab = labs.load_stored(config, lab)
    if "sweep" not in config:
        found.append(_read(folder, lab, path))
        return
    before = len(found)
    for single in sorted(folder.runs.iterdir()) if folder.runs.is_dir() else []:
        inner = RunFolder(single)
        if inner.is_complete():
            found.append(_read(inner, lab, path))
        else:
            notes.append(f"left out: {single} is unfinished or has diverged")
    if len(found) == before:
        raise UserError(f"{path}: a sweep without a finished run")


def _read(folder: RunFolder, lab: Experiment, source: pathlib.Path) -> FinishedRun:
    """Returns the run of a folder; raises UserError if it is unfinished or of a study."""
    if not isinstance(lab, Lab):
        raise UserError(f"{folder.path}: {lab.name} is a study; runs of a lab with training")
    if not (folder.path / "summary.json").exists():
        raise UserError(f"{folder.path}: not finished; the command of the run resumes it")
    config = folder.read_config()
    return FinishedRun(
        path=folder.path,
        source=source,
        lab=lab,
        config=config,
        summary=folder.read_summary(),
        rows=folder.read_metrics(),
        settings=_result_settings(lab.config_class, config),
    )


def _result_settings(config_class: type[Config], config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that affect the result, without seed and data set.

    A setting that is newer than the run has its default.
    """
    stored = canonical(config_class, config["settings"])
    found = {
        name: stored.get(name, field.default)
        for name, field in settings(config_class)
        if field.metadata["kind"] == IDENTITY and name not in ("seed", "dataset")
    }
    if "optimizer" in config:  # the task's own
        found["optimizer"] = config["optimizer"]
    return found


def _require_comparable(first: FinishedRun, run: FinishedRun) -> None:
    """Raises UserError unless two runs are of one lab, data set, tokenizer and split."""
    lab, other = (one.config["experiment"] for one in (first, run))
    if lab != other:
        raise UserError(f"{run.path}: a run of {other}, but {first.path} is one of {lab}")
    (words, data), (other_words, others) = _data(first), _data(run)
    if data != others:
        raise UserError(f"{run.path}: other data ({other_words}) than {first.path} ({words})")
    fields = sections(first.lab.config_class)["data"]
    for name in (name for name, _ in fields if name in first.settings):
        before, now = first.settings[name], run.settings[name]
        if before != now:
            raise UserError(
                f"{run.path}: other data, {name}={flag_value(now)}, than {first.path},"
                f" {name}={flag_value(before)}"
            )
    for name in first.data_spec.keys() & run.data_spec.keys():
        if first.data_spec[name] != run.data_spec[name]:
            raise UserError(f"{run.path}: another tokenizer or shape ({name}) than {first.path}")
    if _monitored(first) != _monitored(run):
        raise UserError(
            f"{run.path}: evaluated on the split {_monitored(run)}, but {first.path} on"
            f" {_monitored(first)}"
        )


def _data(run: FinishedRun) -> tuple[str, dict[str, Any]]:
    """Returns the data of a run in words, and what identifies them.

    This is their contents, since files may be moved; without a hash also their name and `dataset`.
    """
    data = run.config.get("dataset") or {}
    contents = {name: data.get(name) for name in CONTENTS}
    if contents["sha256"]:
        return f"{data.get('name')}, {contents['sha256'][:8]}", contents
    chosen = canonical(run.lab.config_class, run.config["settings"]).get("dataset")
    names = {"name": data.get("name"), "dataset": chosen}
    return ", ".join(dict.fromkeys(filter(None, names.values()))), contents | names


def _monitored(run: FinishedRun) -> str:
    return next((row["split"] for row in run.rows if row["split"] != "train"), "train")


def _split_and_name(metric: str, run: FinishedRun) -> tuple[str, str]:
    """Returns the split and the name in its rows of a metric; ("", metric) for a final metric."""
    for split in dict.fromkeys(row["split"] for row in run.rows):
        name = metric.removeprefix(f"{split}_")
        if name != metric and series(run.rows, split, name)[0].size:
            return split, name
    return "", metric


def _require_metric(run: FinishedRun, metric: str) -> None:
    found = list(run.summary["metrics"])
    if metric not in found:
        hint = nearest(metric, found) or f"; {', '.join(found)}"
        raise ArgumentError("metric", f"{metric!r} is not a metric of {run.path}{hint}")


def _grouped(found: Sequence[FinishedRun]) -> list[Group]:
    """Returns the groups of runs that differ only in the seed, in the order of the runs.

    Where two runs have the same settings and seed, of another version of the code for example,
    the runs of every given folder are a group.

    Raises:
      UserError: a folder has two such runs.
    """
    keys = [_key(run.settings) for run in found]
    if len(set(zip(keys, (run.seed for run in found), strict=True))) < len(found):
        keys = [(key, run.source) for key, run in zip(keys, found, strict=True)]
    groups: dict[Any, list[FinishedRun]] = {}
    for key, run in zip(keys, found, strict=True):
        groups.setdefault(key, []).append(run)
    for runs in groups.values():
        if len({run.seed for run in runs}) < len(runs):
            raise UserError(f"{runs[-1].path}: another run has the same settings and seed")
    all_settings = [runs[0].settings for runs in groups.values()]
    differing = [
        name
        for name in all_settings[0]
        if any(one.get(name) != all_settings[0][name] for one in all_settings)
    ]
    return [
        Group(name, {setting: runs[0].settings[setting] for setting in differing}, runs)
        for name, runs in zip(_letters(), groups.values(), strict=False)
    ]


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(value)) for name, value in values.items())


def _letters() -> Iterator[str]:
    """Yields A, B, ..., Z, AA, AB, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=length))


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
    statistics = compare_groups(rows, ["value"])
    return Basis(name, statistics, verdicts(statistics, "value"))
