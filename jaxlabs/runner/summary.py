"""The content of summary.json, written at the end of a command."""

import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxlabs import published
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.description import not_comparable_reason
from jaxlabs.runner.lab import Invocation, StudyResult
from jaxlabs.runner.run_context import RunContext
from jaxlabs.runner.sweep_plan import Sweep, compare_groups, run_name
from jaxlabs.training import devices, memory, signals
from jaxlabs.training.run_config import CommonConfig
from jaxlabs.training.state import count_parameters
from jaxlabs.training.trainer import TrainResult


def measure_baselines(data: DataModule) -> dict[str, float]:
    """Returns the baselines of a run; if they fail, none, after one line of warning."""
    try:
        return data.baselines()
    except Exception as error:  # whatever it is, it must not cost the run its results
        if signals.requested() is not None:  # a library wrapped the interruption
            raise
        text = " ".join(str(error).split())
        reason = f"{type(error).__name__}{f': {text}' if text else ''}"
        print(f"baselines: {reason}; the report will have none", file=sys.stderr)
        return {}


def summarize(
    invocation: Invocation,
    context: RunContext,
    result: TrainResult,
    baselines: Mapping[str, float],
) -> dict[str, Any]:
    """Returns summary.json of a complete run of a lab, after its analysis."""
    config, task, data, folder = context.tuned_config, context.task, context.data, context.folder
    params, steps = result.state.params, int(result.state.step)
    metrics = _final_metrics(folder, result)
    metrics |= invocation.lab.analyze(config, task, data, result.state, folder)
    summary = {
        "experiment": invocation.lab.name,
        "preset": invocation.preset,
        "dataset": data.dataset["name"],
        "seed": config.seed,
        "steps": steps,
        "parameters": count_parameters(params),
        "parameters_sha256": _sha256(params),
        "seconds": result.seconds,
        "steps_per_second": steps / result.seconds if result.seconds else None,
        "compile_seconds": result.compile_seconds,
        "evaluation_seconds": result.evaluation_seconds,
        "peak_memory_bytes": _peak_memory(),
        "flops_per_step": result.flops_per_step,
        "metrics": {},
        "evaluated": result.evaluated,
        "baselines": dict(baselines),
        "comparison": [],
        "environment": folder.read_config()["versions"] | devices.describe(),
    }
    return summary | update_metrics(invocation, context, summary, metrics)


def update_metrics(
    invocation: Invocation, context: RunContext, summary: dict[str, Any], metrics: dict[str, float]
) -> dict[str, Any]:
    """Returns the entries of a run's summary that change with new `metrics`."""
    metrics = summary["metrics"] | metrics
    if summary["preset"] not in invocation.lab.presets:  # one of an earlier version
        return {"metrics": metrics}
    invocation = dataclasses.replace(invocation, preset=summary["preset"])
    costs = {name: summary[name] for name in ("parameters", "seconds")}
    reason = not_comparable_reason(invocation, context.config, context.task, context.data)
    unit = context.data.loss_unit or invocation.lab.loss_unit
    comparison = published.compare(
        published.in_unit(invocation.lab.published, unit),
        invocation.preset,
        metrics | costs,
        not_comparable_reason=reason,
    )
    return {"metrics": metrics, "comparison": comparison}


def summarize_study(
    invocation: Invocation, config: CommonConfig, result: StudyResult, seconds: float
) -> dict[str, Any]:
    """Returns summary.json of a study."""
    return {
        "experiment": invocation.lab.name,
        "preset": invocation.preset,
        "seed": config.seed,
        "seconds": seconds,
        "peak_memory_bytes": _peak_memory(),
        "metrics": result.metrics,
        "comparison": published.compare(
            invocation.lab.published, invocation.preset, result.metrics
        ),
        "environment": devices.describe(),
    } | result.extra


def summarize_sweep(
    invocation: Invocation, sweep: Sweep, runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns summary.json of a sweep: its runs, and the comparison of their settings.

    Args:
      invocation: the command line.
      sweep: the settings of the runs.
      runs: the runs, each with `point` (its settings) and with `metrics`, `seconds` and
        `comparison` of its summary.
    """
    groups = compare_groups(runs, sweep.metrics)
    return {
        "experiment": invocation.lab.name,
        "preset": invocation.preset,
        "sweep": invocation.sweep,
        "seconds": sum(run["seconds"] or 0.0 for run in runs),
        "peak_memory_bytes": _peak_memory(),
        "metrics": {
            f"{run_name(group['settings']) or 'all'}: {name}": value["mean"]
            for group in groups
            for name, value in group["metrics"].items()
        },
        "groups": groups,
        "runs": [{name: run[name] for name in ("point", "metrics", "seconds")} for run in runs],
        "comparison": _compare_means(groups, runs),
        "environment": devices.describe(),
    }


def _compare_means(
    groups: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Compares means over seeds with published results, if only the seed varies."""
    if len(groups) > 1:
        return []
    means = {name: value["mean"] for name, value in groups[0]["metrics"].items()}
    rows = runs[0]["comparison"]
    return [row | {"ours": means.get(row["metric"], row["ours"])} for row in rows]


def _final_metrics(folder: RunFolder, result: TrainResult) -> dict[str, float]:
    """Returns the training loss and the metrics of the last and of the final evaluation."""
    rows = folder.read_metrics()
    steps = int(result.state.step)
    last = [row for row in rows if row["split"] != "train" and row["step"] == steps]
    metrics = {
        f"{row['split']}_{name}": value
        for row in last
        for name, value in row.items()
        if name not in ("step", "split", "seconds")
    }
    training = [row["loss"] for row in rows if row["split"] == "train" and row["loss"] is not None]
    if training:
        metrics["train_loss"] = float(np.mean(training[-max(1, len(training) // 20) :]))
    return metrics | result.final_metrics


def _sha256(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(params)):
        digest.update(np.ascontiguousarray(leaf).astype(leaf.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _peak_memory() -> int:
    """Returns the peak memory in bytes: of the device if it reports one, else of the process."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use", memory.peak_memory())
