"""Runs every lab and collects the results in one table.

Every lab runs with the given preset, or with its default if it has no preset of that name, in its
own folder; a lab that reads the run of another one runs after it. The page and results.md have a
row for every published result and for the main metrics of each lab. Rerun an interrupted command to
resume it; finished labs are not run again.

Source    the documents that each lab names
Command   python -m experiments.reproduce --preset=quick --platform=cpu --labs=worked_problems,gpt
Expect    the total time of the labs, which their own headers state
"""

# The run folders are `runs/<lab>/seed=<seed>` below that of the suite; each is that of the command
# in its config.json. The table is rewritten after every run, from all complete runs.

import collections
import dataclasses
import datetime
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.report import results
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import sweeps
from jaxlabs.runner.flags import error_line
from jaxlabs.runner.lab import Experiment, Invocation, Lab, Study, Suite
from jaxlabs.runner.run_context import check_same_run, open_run
from jaxlabs.runner.sweep_plan import MAX_METRICS, compare_groups
from jaxlabs.training import capacity, compile_cache, devices, signals
from jaxlabs.training.run_config import SuiteConfig

FORWARDED_FLAGS = ("platform", "data_dir")
"""Flags that are forwarded to every run."""


def suite(
    labs: Mapping[str, Lab | Study],
    load: Callable[[str], Lab | Study] | None = None,
    load_stored: Callable[[Mapping[str, Any]], Lab | Study] | None = None,
) -> Suite:
    """Returns the command that runs labs and studies; the arguments are those of `Suite`."""
    return Suite(
        name="reproduce",
        description=__doc__,
        config_class=SuiteConfig,
        presets={"quick": {}, "reference": {}, "best": {}},
        labs=labs,
        load=load,
        load_stored=load_stored,
    )


def run(invocation: Invocation) -> int:
    """Runs everything that is not complete yet; returns 0, or 1 if a lab failed.

    A failed lab is reported and the others are run.

    Raises:
      UserError: a lab is unknown, or the folder belongs to another run.
    """
    config, suite = invocation.config(), invocation.lab
    chosen = _chosen(suite, config.labs)
    devices.start(config.platform)
    compile_cache.enable(config.data_dir)
    seeds = config.seeds_from(config.seeds)
    runs = [(name, seed) for name in chosen for seed in seeds]
    failed: dict[str, str] = {}
    with open_run(invocation, config) as folder, compile_cache.shared():
        _require_preset(invocation, folder)
        known = {**suite.labs, **chosen}
        labs = collections.ChainMap(chosen | _stored(suite, known, folder, failed), suite.labs)
        invocation = dataclasses.replace(invocation, lab=dataclasses.replace(suite, labs=labs))
        for number, (name, seed) in enumerate(runs, start=1):
            label = f"{name}, seed {seed}"
            print(f"run {number}/{len(runs)}: {label}", file=sys.stderr, flush=True)
            try:
                with signals.during(f"in {label}"):
                    _run(invocation, name, seed, _run_folder(folder, name, seed))
            except Exception as error:  # of any kind; the other runs continue
                if signals.requested() is not None:
                    raise
                failed[label] = _in_a_line(error, invocation.lab.labs[name])
                continue
            finally:
                jax.clear_caches()
            _write(invocation, folder, failed)
        _write(invocation, folder, failed)
        print(results.markdown(folder.read_summary()))
        print(f"report: {write_report(folder, invocation.lab)}")
    for label, reason in failed.items():
        print(f"{invocation.lab.name}: {label} failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _chosen(suite: Suite, given: str) -> dict[str, Lab | Study]:
    """Returns the labs of the flag `--labs` by name; those with inputs are last."""
    known, chosen = suite.labs, {}
    for word in dict.fromkeys(known if given == "all" else map(str.strip, given.split(","))):
        if word in known:
            chosen[word] = known[word]
        elif word.endswith(".py") and suite.load is not None:
            lab = suite.load(word)
            if lab.name in {*known, *chosen}:
                raise UserError(f"--labs: {word}: another lab is named {lab.name!r}; another name")
            chosen[lab.name] = lab
        else:
            raise UserError(
                f"--labs: {word!r} is not accepted; all, or some of {', '.join(known)}"
                f"{nearest(word, known)}"
            )
    return dict(sorted(chosen.items(), key=lambda item: bool(item[1].inputs)))


def _stored(
    suite: Suite, known: Mapping[str, Lab | Study], folder: RunFolder, failed: dict[str, str]
) -> dict[str, Lab | Study]:
    """Returns the labs beside the known ones that have complete runs, for the table.

    A lab that is not found any more, or whose file the user has not run, is added to `failed`.
    """
    found = {}
    for path in folder.runs.glob("*/seed=*"):
        name, run = path.parent.name, RunFolder(path)
        if name in known or name in found or suite.load_stored is None:
            continue
        if run.is_complete():
            try:
                found[name] = suite.load_stored(run.read_config())
            except UserError as error:
                failed[name] = f"--labs: {str(error).removeprefix('lab: ')}"
    return found


def _require_preset(invocation: Invocation, folder: RunFolder) -> None:
    stored = folder.read_config()["preset"]
    if stored != invocation.preset:
        raise ArgumentError(
            "workdir",
            f"the run in {folder.path} has different settings: preset (stored {stored}, given"
            f" {invocation.preset}); use the same one, another `workdir`, or `overwrite`",
        )


def _run_folder(folder: RunFolder, name: str, seed: int) -> RunFolder:
    return RunFolder(folder.runs / name / f"seed={seed}")


def _run(invocation: Invocation, name: str, seed: int, folder: RunFolder) -> None:
    """Runs one lab with one seed, unless its run folder is complete."""
    lab = invocation.lab.labs[name]
    overrides = {
        flag: invocation.overrides[flag] for flag in FORWARDED_FLAGS if flag in invocation.overrides
    }
    for flag, source in lab.inputs.items():
        run = RunFolder(folder.path.parents[1] / source / folder.path.name)
        overrides |= {flag: str(run.path)} if run.is_complete() else {}
    of_lab = dataclasses.replace(invocation, lab=lab, preset=preset_of(lab, invocation.preset))
    single = sweeps.single_run(of_lab, overrides | {"seed": seed}, folder)
    if folder.is_complete():
        check_same_run(folder.read_config(), single, single.config(), None)
        if not folder.report.exists():  # it was interrupted while the report was written
            write_report(folder, lab)
    else:
        sweeps.run_to_end(single, report=True)


def preset_of(lab: Experiment, preset: str) -> str:
    """Returns the preset if a lab has it, else the default preset of the lab."""
    return preset if preset in lab.presets else next(iter(lab.presets))


def _in_a_line(error: Exception, lab: Experiment) -> str:
    if isinstance(error, UserError):
        return error_line(lab, error)
    if (line := capacity.in_a_line(error)) is not None:
        return line
    traceback.print_exc()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _write(invocation: Invocation, folder: RunFolder, failed: dict[str, str]) -> None:
    """Writes summary.json, results.json, results.md and the report, from all complete runs.

    Runs with damaged files are added to `failed`.
    """
    suite, rows, runs, machines = invocation.lab, [], [], {}
    for name in suite.labs:
        complete = _complete_runs(invocation, folder, name, failed)
        if not complete:
            continue
        preset = preset_of(suite.labs[name], invocation.preset)
        rows += _rows(suite, name, preset, invocation.preset, complete)
        runs += [
            {"lab": name} | {key: run[key] for key in ("seed", "seconds")} for _, run in complete
        ]
        for config, summary in complete:
            labs = machines.setdefault(_machine(config, summary), [])
            labs += [] if name in labs else [name]
    times = sorted(
        (_run_folder(folder, run["lab"], run["seed"]).path / "summary.json").stat().st_mtime
        for run in runs
    )
    days = [datetime.datetime.fromtimestamp(time, datetime.UTC).date() for time in times]
    results_found = {
        "preset": invocation.preset,
        "dates": [str(day) for day in dict.fromkeys((*days[:1], *days[-1:]))],
        "machines": [{"machine": name, "labs": labs} for name, labs in machines.items()],
        "results": rows,
        "failures": [{"run": label, "reason": reason} for label, reason in failed.items()],
    }
    folder.write_results(results_found)
    folder.write_summary(
        {
            "experiment": suite.name,
            "seconds": sum(run["seconds"] for run in runs),
            "metrics": {"runs": len(runs), "failed": len(failed)},
            "comparison": [],
            "environment": devices.describe(),
            "runs": runs,
        }
        | results_found
    )
    folder.write_text(folder.path / "results.md", results.markdown(folder.read_summary()))
    write_report(folder, invocation.lab)


CompleteRun = tuple[dict[str, Any], dict[str, Any]]
"""A run's config.json and summary.json."""


def _complete_runs(
    invocation: Invocation, folder: RunFolder, name: str, failed: dict[str, str]
) -> list[CompleteRun]:
    """Returns the complete runs of a lab, by seed; damaged ones are added to `failed`."""
    found = {}
    for path in (folder.runs / name).glob("seed=*"):
        run, (_, seed) = RunFolder(path), path.name.split("=", 1)
        label = f"{name}, seed {seed}"
        if not run.is_complete():
            continue
        preset = preset_of(invocation.lab.labs[name], invocation.preset)
        try:
            config, summary = run.read_config(), run.read_summary()
            if str(summary["seed"]) != seed:
                raise ValueError(f"its seed is {summary['seed']}")
            _machine(config, summary)
            _rows(invocation.lab, name, preset, invocation.preset, [(config, summary)])
        except Exception as error:  # damage raises exceptions of many types
            reason = str(error) if isinstance(error, UserError) else f"{path}: damaged ({error!r})"
            failed.setdefault(label, reason)
        else:
            found[summary["seed"]] = config, summary
    return [found[seed] for seed in sorted(found)]


def _rows(
    suite: Suite, name: str, preset: str, requested: str, runs: Sequence[CompleteRun]
) -> list[dict[str, Any]]:
    """Returns the rows of a lab: metrics with a published value, then its other main metrics.

    A main metric that the lab did not report has a row without a value.
    """
    first = runs[0][1]
    comparison = first["comparison"]
    published = {row["metric"] for row in comparison}
    main = suite.labs[name].main_metrics or list(first["metrics"])[:MAX_METRICS]
    others = [metric for metric in main if metric not in published]
    points = [
        {"point": {"seed": summary["seed"]}, "metrics": _all_metrics(summary)}
        for _, summary in runs
    ]
    (group,) = compare_groups(points, [*published, *others])
    common = {
        "lab": name,
        "preset": preset,
        "preset_note": "" if preset == requested else f"no preset {requested}",
        "seeds": len(runs),
        "seconds": sum(summary["seconds"] for _, summary in runs) / len(runs),
        "command": _command(runs[0][0], [summary["seed"] for _, summary in runs]),
    }
    without = {
        "unit": "",
        "published": None,
        "source": "",
        "comparable": True,
        "not_comparable_reason": "",
    }
    rows = [{key: row[key] for key in ("quantity", "metric", *without)} for row in comparison]
    rows += [
        {"quantity": metric.replace("_", " "), "metric": metric} | without for metric in others
    ]
    for row in rows:
        value = group["metrics"][row["metric"]]
        ratio = value["mean"] / row["published"] if row["published"] else None
        row |= {"ours": value["mean"], "std": value["std"], "ratio": ratio} | common
    return rows


def _all_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    costs = {key: summary[key] for key in ("parameters", "seconds") if key in summary}
    return summary["metrics"] | costs


def _command(config: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """Returns the command of the first run, without `--workdir`, and the other seeds."""
    words = [word for word in shlex.split(config["command"]) if not word.startswith("--workdir=")]
    more = f"  # and --seed={', '.join(map(str, seeds[1:]))}" if len(seeds) > 1 else ""
    return shlex.join(words) + more


def _machine(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Returns the machine and the package versions of a run, in one line."""
    environment = summary["environment"]
    parts = [f"{environment['processor']}, {environment['cores']} cores"]
    if environment["platform"] != "cpu":
        parts.append(f"{environment['devices']} x {environment['kind']}")
    versions = config["versions"].items()
    return "; ".join([*parts, ", ".join(f"{name} {version}" for name, version in versions)])
