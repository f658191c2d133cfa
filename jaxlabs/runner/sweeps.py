"""Running a sweep: many runs of one lab, each in a folder below that of the sweep."""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Mapping
from typing import Any

import tqdm

from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import modes
from jaxlabs.runner.lab import Invocation, Lab, Study, StudyData
from jaxlabs.runner.run_context import open_run
from jaxlabs.runner.summary import summarize_sweep
from jaxlabs.runner.sweep_plan import MAX_METRICS, Sweep, flag_value, run_name
from jaxlabs.runner.verdict import verdicts
from jaxlabs.training import compile_cache, devices, signals
from jaxlabs.training.trainer import NonFiniteError


def run(invocation: Invocation) -> None:
    """Trains every run of a sweep that is not complete yet, and compares all runs.

    Raises:
      UserError: a flag sets what the sweep varies, or requests several processes.
    """
    lab, config, sweep = invocation.lab, invocation.config(), invocation.plan()
    for name in invocation.overrides:
        if name in sweep.axes and not invocation.axes:
            raise UserError(f"--{name}: the sweep {invocation.sweep} varies it; leave it out")
    if isinstance(lab, Lab) and (config.num_processes or 1) > 1:
        raise UserError(
            f"--num_processes: {config.num_processes} is not accepted; a sweep runs in one process"
        )
    devices.start(config.platform)
    compile_cache.enable(config.data_dir)
    data = lab.load_data(config) if lab.load_data else None
    if data is not None and data.warning:  # the output of the runs is discarded
        print(data.warning, file=sys.stderr)
    task = lab.build_task(config, data.data_spec) if isinstance(lab, Lab) else None
    with open_run(invocation, config, data, task) as folder, compile_cache.shared():
        if invocation.axes:  # more values than before, or the same
            folder.write_config(folder.read_config() | {"axes": dict(invocation.axes)})
        runs = []
        points = tqdm.tqdm(sweep.points(), unit="run", disable=None, file=sys.stderr)
        for number, point in enumerate(points, 1):
            name = run_name(point)
            points.set_postfix_str(name)
            if points.disable:  # no terminal
                print(f"run {number}/{points.total}: {name}", file=sys.stderr, flush=True)
            with signals.during(f"in the run {name}"):
                runs.append(_run(invocation, sweep, point, RunFolder(folder.runs / name)))
        if not sweep.metrics:
            sweep = dataclasses.replace(sweep, metrics=_main_metrics(data, runs))
        summary = summarize_sweep(invocation, sweep, runs)
        folder.write_summary(summary)
        print(_table(summary["groups"]))
        for line in _verdicts(summary["groups"]):
            print(line)
        print(f"report: {write_report(folder, invocation.lab)}")


def _table(groups: list[dict[str, Any]]) -> str:
    """Returns the mean and standard deviation over seeds of every metric, a line per settings."""
    lines = []
    for group in groups:
        values = [
            f"{name} {value['mean']:.4f}"
            + ("" if value["std"] is None else f" ± {value['std']:.4f}")
            for name, value in group["metrics"].items()
        ]
        lines.append(f"{run_name(group['settings']) or 'all'}: {', '.join(values)}")
    return "\n".join(lines)


def _verdicts(groups: list[dict[str, Any]]) -> list[str]:
    """Returns lines: the comparison with the first settings, by every metric."""
    named = [group | {"settings": {"group": run_name(group["settings"])}} for group in groups]
    metrics = groups[0]["metrics"]
    return [f"{name}: {each}" for name in metrics for each in verdicts(named, name)]


def _main_metrics(data: DataModule | StudyData | None, runs: list[dict[str, Any]]) -> list[str]:
    """Returns the metrics to compare where the lab names none: the monitored loss, or the first."""
    if isinstance(data, DataModule):
        return [f"{next(iter(data.eval_sets))}_loss"]
    return list(runs[0]["metrics"])[:MAX_METRICS]


def _run(
    invocation: Invocation, sweep: Sweep, point: dict[str, Any], folder: RunFolder
) -> dict[str, Any]:
    """Trains one run and returns its settings and metrics.

    A run of `--vary` has its own report; one of a lab's sweep leaves that to the sweep.
    """
    overrides = sweep.planned(point) | invocation.overrides | point
    try:
        # Its output would hide the progress of the sweep; it is in the run folder as well.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            summary = run_to_end(
                single_run(invocation, overrides, folder),
                report=bool(invocation.axes),
            )
    except NonFiniteError:  # a diverged run is a result
        return {"point": point, "metrics": {}, "seconds": None, "comparison": []}
    return {"point": point} | {name: summary[name] for name in ("metrics", "seconds", "comparison")}


def single_run(
    invocation: Invocation, overrides: Mapping[str, Any], folder: RunFolder
) -> Invocation:
    """Returns the invocation of one run in its own folder, with the equivalent command line.

    Args:
      invocation: invocation with the lab and the preset.
      overrides: settings of the run on top of the preset, by flag name.
      folder: its run folder.
    """
    overrides = dict(overrides) | {"workdir": str(folder.path)}
    settings: dict[str, Any] = {"preset": invocation.preset}
    settings |= {"config": invocation.config_file} if invocation.config_file else {}
    flags = [f"--{name}={flag_value(value)}" for name, value in (settings | overrides).items()]
    return dataclasses.replace(
        invocation,
        sweep=None,
        axes={},
        overrides=overrides,
        overwrite=False,
        arguments=tuple(flags),
    )


def run_to_end(single: Invocation, *, report: bool) -> dict[str, Any]:
    """Runs a lab or a study to the end and returns its summary.

    Args:
      single: the invocation, see `single_run`.
      report: whether a run of a lab gets its report; a study always does.
    """
    if isinstance(single.lab, Study):
        modes.measure(single)
    else:
        modes.train(single, report=report)
    return single.folder().read_summary()
