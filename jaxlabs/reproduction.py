"""Carrying out every lab, each as its own command would, and setting all results in one table.

A run stands in `runs/<lab>/seed=<seed>` of the collection's folder, and is what the command in its
config.json gives. The table is made anew after every run, from whatever has ended by then.
"""

import dataclasses
import datetime
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxlabs import sweeps
from jaxlabs.config import UserError, nearest
from jaxlabs.lab import Experiment, Invocation, Suite
from jaxlabs.opening import check_same_run, open_run
from jaxlabs.report import results
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import compare_groups
from jaxlabs.training import capacity, devices, signals

PASSED_ON = ("platform", "data_dir")
"""Flags that every run gets as they were given."""

MAX_FIGURES = 3
"""Of a lab whose main figures nobody has named."""


def run(request: Invocation) -> int:
    """Does all runs that have not ended yet; returns 0, or 1 when a lab failed.

    One that fails is named, and the others go on.

    Raises:
      UserError: a lab is unknown, or the folder belongs to something else.
    """
    config, chosen = request.config(), _chosen(request)
    devices.start(config.platform)
    seeds = config.seeds_from(config.seeds)
    turns = [(name, seed) for name in chosen for seed in seeds]
    failed: dict[str, str] = {}
    with open_run(request, config) as folder, sweeps.compiled_programs_kept():
        _require_preset(request, folder)
        for turn, (name, seed) in enumerate(turns, start=1):
            who = f"{name}, seed {seed}"
            print(f"{turn} of {len(turns)}: {who}", file=sys.stderr, flush=True)
            try:
                with signals.during(f"in {who}"):
                    _run(request, name, seed, _place(folder, name, seed))
            except Exception as error:  # whatever it is, the others go on
                if signals.requested() is not None:
                    raise
                failed[who] = _in_a_line(error)
                continue
            finally:
                jax.clear_caches()
            _write(request, folder, failed)
        _write(request, folder, failed)
        print(results.markdown(folder.read_summary()))
        print(f"report: {write_report(folder)}")
    for who, why in failed.items():
        print(f"{request.lab.name}: {who} failed: {why}", file=sys.stderr)
    return 1 if failed else 0


def _chosen(request: Invocation) -> list[str]:
    known, asked = request.lab.labs, request.config().labs
    names = dict.fromkeys(known if asked == "all" else map(str.strip, asked.split(",")))
    for name in names:
        if name not in known:
            raise UserError(
                f"--labs: {name!r} is not accepted; all, or some of {', '.join(known)}"
                f"{nearest(name, known)}"
            )
    return sorted(names, key=request.lab.inputs.__contains__)


def _require_preset(request: Invocation, folder: RunFolder) -> None:
    there = folder.read_config()["preset"]
    if there != request.preset:
        raise UserError(
            f"--workdir: the preset {there} was run there, not {request.preset}; use the same one,"
            " another --workdir, or --overwrite"
        )


def _place(folder: RunFolder, name: str, seed: int) -> RunFolder:
    return RunFolder(folder.runs / name / f"seed={seed}")


def _run(request: Invocation, name: str, seed: int, folder: RunFolder) -> None:
    """Carries out one run, unless that has been done."""
    lab = request.lab.labs[name]
    given = {flag: request.given[flag] for flag in PASSED_ON if flag in request.given}
    if name in request.lab.inputs:
        flag, source = request.lab.inputs[name]
        run = RunFolder(folder.path.parents[1] / source / folder.path.name)
        given |= {flag: str(run.path)} if run.is_complete() else {}
    asked = dataclasses.replace(request, lab=lab, preset=preset_of(lab, request.preset))
    single = sweeps.alone(asked, given | {"seed": seed}, folder)
    if folder.is_complete():
        check_same_run(folder.read_config(), single, single.config(), None)
        if not folder.report.exists():  # it was interrupted while its report was drawn
            write_report(folder)
    else:
        sweeps.complete(single, draw=True)


def preset_of(lab: Experiment, preset: str) -> str:
    """Returns the preset where a lab has it, else the lab's default."""
    return preset if preset in lab.presets else next(iter(lab.presets))


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if (line := capacity.in_a_line(error)) is not None:
        return line
    traceback.print_exc()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _write(request: Invocation, folder: RunFolder, failed: dict[str, str]) -> None:
    """Writes summary.json, results.json, results.md and the page, from all runs that have ended.

    Runs with damaged files join the failed.
    """
    collection, rows, runs, machines = request.lab, [], [], {}
    for name, lab in collection.labs.items():
        ended = _ended(request, folder, name, failed)
        if not ended:
            continue
        preset = preset_of(lab, request.preset)
        rows += _rows(collection, name, preset, request.preset, ended)
        runs += [{"lab": name} | {key: run[key] for key in ("seed", "seconds")} for _, run in ended]
        for config, summary in ended:
            labs = machines.setdefault(_machine(config, summary), [])
            labs += [] if name in labs else [name]
    times = sorted(
        (_place(folder, run["lab"], run["seed"]).path / "summary.json").stat().st_mtime
        for run in runs
    )
    days = [datetime.datetime.fromtimestamp(time, datetime.UTC).date() for time in times]
    found = {
        "preset": request.preset,
        "dates": [str(day) for day in dict.fromkeys((*days[:1], *days[-1:]))],
        "machines": [{"machine": name, "labs": labs} for name, labs in machines.items()],
        "results": rows,
        "failures": [{"run": who, "why": why} for who, why in failed.items()],
    }
    folder.write_results(found)
    folder.write_summary(
        {
            "experiment": collection.name,
            "seconds": sum(run["seconds"] for run in runs),
            "metrics": {"runs": len(runs), "failed": len(failed)},
            "comparison": [],
            "environment": devices.describe(),
            "runs": runs,
        }
        | found
    )
    folder.write_text(folder.path / "results.md", results.markdown(folder.read_summary()))
    write_report(folder)


Ended = tuple[dict[str, Any], dict[str, Any]]
"""A run's config.json and summary.json."""


def _ended(
    request: Invocation, folder: RunFolder, name: str, failed: dict[str, str]
) -> list[Ended]:
    """Returns a lab's runs that have ended, by seed; those with damaged files join the failed."""
    found, preset = {}, preset_of(request.lab.labs[name], request.preset)
    for place in (folder.runs / name).glob("seed=*"):
        run, (_, seed) = RunFolder(place), place.name.split("=", 1)
        who = f"{name}, seed {seed}"
        if not run.is_complete():
            continue
        try:
            config, summary = run.read_config(), run.read_summary()
            if str(summary["seed"]) != seed:
                raise ValueError(f"its seed is {summary['seed']}")
            _machine(config, summary)
            _rows(request.lab, name, preset, request.preset, [(config, summary)])
        except Exception as error:  # what damage leads to is of many kinds
            reason = str(error) if isinstance(error, UserError) else f"{place}: damaged ({error!r})"
            failed.setdefault(who, reason)
        else:
            found[summary["seed"]] = config, summary
    return [found[seed] for seed in sorted(found)]


def _rows(
    collection: Suite, name: str, preset: str, wanted: str, ended: Sequence[Ended]
) -> list[dict[str, Any]]:
    """Returns a lab's rows: those with a published figure, then its other main figures.

    A main figure that the lab did not report has a row without a value.
    """
    first = ended[0][1]
    compared = first["comparison"]
    met = {row["metric"] for row in compared}
    main = collection.main.get(name, list(first["metrics"])[:MAX_FIGURES])
    alone = [metric for metric in main if metric not in met]
    runs = [
        {"point": {"seed": summary["seed"]}, "metrics": _figures(summary)} for _, summary in ended
    ]
    (group,) = compare_groups(runs, [*met, *alone])
    common = {
        "lab": name,
        "preset": preset,
        "preset_note": "" if preset == wanted else f"it has no preset {wanted}",
        "seeds": len(ended),
        "seconds": sum(summary["seconds"] for _, summary in ended) / len(ended),
        "command": _command(ended[0][0], [summary["seed"] for _, summary in ended]),
    }
    without = {
        "unit": "",
        "published": None,
        "source": "",
        "comparable": True,
        "not_comparable_reason": "",
    }
    rows = [{key: row[key] for key in ("figure", "metric", *without)} for row in compared]
    rows += [{"figure": metric.replace("_", " "), "metric": metric} | without for metric in alone]
    for row in rows:
        found = group["metrics"][row["metric"]]
        ratio = found["mean"] / row["published"] if row["published"] else None
        row |= {"ours": found["mean"], "deviation": found["deviation"], "ratio": ratio} | common
    return rows


def _figures(summary: Mapping[str, Any]) -> dict[str, float]:
    costs = {key: summary[key] for key in ("parameters", "seconds") if key in summary}
    return summary["metrics"] | costs


def _command(config: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """Returns the command of a lab's first run without its folder, and which seeds it was run with.

    It is shown for a reader to copy, whose folders are others.
    """
    words = [word for word in shlex.split(config["command"]) if not word.startswith("--workdir=")]
    more = f"  # and --seed={', '.join(map(str, seeds[1:]))}" if len(seeds) > 1 else ""
    return shlex.join(words) + more


def _machine(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Returns machine and versions of a run, in one line."""
    there = summary["environment"]
    parts = [f"{there['processor']}, {there['cores']} cores"]
    if there["platform"] != "cpu":
        parts.append(f"{there['devices']} x {there['kind']}")
    versions = config["versions"].items()
    return "; ".join([*parts, ", ".join(f"{name} {version}" for name, version in versions)])
