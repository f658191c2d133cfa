"""Finished runs that can be compared: reading, refusing and grouping them."""

import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxlabs import labs
from jaxlabs.config import IDENTITY, ArgumentError, Config, UserError, canonical, settings
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.help_text import sections
from jaxlabs.runner.lab import Experiment, Lab
from jaxlabs.runner.sweep_plan import flag_value
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.run_config import CONTENTS

TOKENIZER = ("kind", "alphabet", "words", "tokenizer")
"""Keys of `DataModule.data_spec` that hold a tokenizer."""


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

    @property
    def monitored_split(self) -> str:
        """The first split that is evaluated; train without one."""
        return next((row["split"] for row in self.rows if row["split"] != "train"), "train")

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


def read(
    sources: Sequence[str | os.PathLike[str] | Run],
    lab: str | os.PathLike[str] | Experiment | None,
) -> tuple[list[FinishedRun], list[str]]:
    """Returns the runs of all folders, and a note for each that is left out.

    Args:
      sources: run folders, folders of sweeps, or runs; a sweep stands for its finished runs.
      lab: the lab of the folders, its name, or the path of its file; None: the one that config.json
        names.

    Raises:
      UserError: there is no run, one is not finished or of a study, or one is given twice.
    """
    lab = labs.resolve(lab)
    runs, notes = [], []
    for source in sources:
        path = pathlib.Path(getattr(source, "path", source))
        try:
            found, left_out = _read_folder(path, getattr(source, "lab", lab))
        except ArgumentError as error:
            if error.argument == "workdir":  # no argument of a comparison
                raise UserError(error.message) from None
            raise
        runs += found
        notes += left_out
    if not runs:
        raise ArgumentError("runs", "empty; at least one run")
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UserError(f"{run.path}: given twice")
    return runs, notes


def _read_folder(path: pathlib.Path, lab: Experiment | None) -> tuple[list[FinishedRun], list[str]]:
    folder = RunFolder(path)
    config = folder.read_config()
    lab = labs.load_stored(config, lab)
    if "sweep" not in config:
        return [_read_run(folder, lab, path)], []
    runs, notes = [], []
    for inner in map(RunFolder, sorted(folder.runs.iterdir()) if folder.runs.is_dir() else []):
        if inner.is_complete():
            runs.append(_read_run(inner, lab, path))
        else:
            notes.append(f"left out: {inner.path} is unfinished or has diverged")
    if not runs:
        raise UserError(f"{path}: a sweep without a finished run")
    return runs, notes


def _read_run(folder: RunFolder, lab: Experiment, source: pathlib.Path) -> FinishedRun:
    """Returns the run of a folder; raises UserError if it is unfinished or of a study."""
    if not isinstance(lab, Lab):
        raise UserError(f"{folder.path}: {lab.name} is a study, without training; runs of a lab")
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


def differ_in_tokenizer(runs: Sequence[FinishedRun]) -> bool:
    """Returns whether runs have different tokenizers, whose losses per token do not compare."""
    specs = [{name: run.data_spec.get(name) for name in TOKENIZER} for run in runs]
    known = [spec for spec in specs if any(spec.values())]
    named = {run.settings.get("tokenizer") for run in runs} if len(known) < len(runs) else ()
    return len(named) > 1 or any(spec != known[0] for spec in known)


def require_comparable(runs: Sequence[FinishedRun], *, any_tokenizer: bool = False) -> None:
    """Raises UserError unless all runs are of one lab, data set, tokenizer and split.

    With `any_tokenizer` they may have different tokenizers: their bits per byte compare.
    """
    first, *others = runs
    for run in others:
        _require_comparable(first, run, any_tokenizer)


def _require_comparable(first: FinishedRun, run: FinishedRun, any_tokenizer: bool) -> None:
    if first.lab.name != run.lab.name:
        message = f"a run of {run.lab.name}, but {first.path} is one of {first.lab.name}"
        raise UserError(f"{run.path}: {message}")
    (words, data), (other_words, other_data) = _data(first), _data(run)
    if data != other_data:
        raise UserError(f"{run.path}: other data ({other_words}) than {first.path} ({words})")
    for name, _ in sections(first.lab.config_class)["data"]:
        before, now = first.settings.get(name), run.settings.get(name)
        if before != now and name != "tokenizer":
            raise UserError(
                f"{run.path}: other data, {name}={flag_value(now)}, than {first.path},"
                f" {name}={flag_value(before)}"
            )
    if not any_tokenizer and differ_in_tokenizer([first, run]):
        accepted = "their losses per token do not compare, bits per byte do"
        raise UserError(f"{run.path}: another tokenizer than {first.path}; {accepted}")
    for name, value in first.data_spec.items():
        if name not in TOKENIZER and run.data_spec.get(name, value) != value:
            raise UserError(f"{run.path}: another shape ({name}) than {first.path}")
    if first.monitored_split != run.monitored_split:
        raise UserError(
            f"{run.path}: evaluated on the split {run.monitored_split}, but {first.path} on"
            f" {first.monitored_split}"
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


def group(runs: Sequence[FinishedRun]) -> list[Group]:
    """Returns the groups of runs that differ only in the seed, in the order of the runs.

    Where two runs have the same settings and seed, of another version of the code for example,
    the runs of every given folder are a group.

    Raises:
      UserError: a folder has two such runs.
    """
    keys = [_key(run.settings) for run in runs]
    if len(set(zip(keys, (run.seed for run in runs), strict=True))) < len(runs):
        keys = [(key, run.source) for key, run in zip(keys, runs, strict=True)]
    found: dict[Any, list[FinishedRun]] = {}
    for key, run in zip(keys, runs, strict=True):
        found.setdefault(key, []).append(run)
    for members in found.values():
        if len({run.seed for run in members}) < len(members):
            raise UserError(f"{members[-1].path}: another run has the same settings and seed")
    first, *others = (members[0].settings for members in found.values())
    differing = [name for name in first if any(other.get(name) != first[name] for other in others)]
    return [
        Group(name, {setting: members[0].settings[setting] for setting in differing}, members)
        for name, members in zip(_letters(), found.values(), strict=False)
    ]


def _key(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(_number(value))) for name, value in values.items())


def _number(value: Any) -> Any:
    """Returns an integer as a float, since a float may be stored as either."""
    return float(value) if type(value) is int else value


def _letters() -> Iterator[str]:
    """Yields A, B, ..., Z, AA, AB, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=length))
