"""The content of config.json, written at the start, and of summary.json, written at the end."""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import resource
import shlex
import subprocess
from typing import Any

import jax
import numpy as np

import jaxlabs
from jaxlabs import paths, published
from jaxlabs.config import path_settings
from jaxlabs.data.dataset import DataModule
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Invocation, Lab, StudyData, StudyResult
from jaxlabs.runner.sweep_plan import Sweep, compare_groups, run_name
from jaxlabs.training import devices, jax_settings
from jaxlabs.training.loop import TrainResult
from jaxlabs.training.run_config import CommonConfig, RunConfig
from jaxlabs.training.state import count_parameters
from jaxlabs.training.task import Task

NON_SEMANTIC_SETTINGS = ("seed", "grad_accum_steps", "eval_batch_size")
"""Settings that change metrics by chance or by rounding only."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(
    request: Invocation, config: CommonConfig, data: DataModule | StudyData | None
) -> dict[str, Any]:
    """Returns config.json: all settings, versions, device, data set."""
    lab = request.lab
    metadata = {
        "experiment": lab.name,
        "preset": request.preset,
        "command": shlex.join(["python", "-m", f"experiments.{lab.name}", *request.arguments]),
        "settings": config.flat() | _absolute_paths(config),
        "preset_settings": request.preset_config().flat(),
        "versions": {"python": platform.python_version(), "jaxlabs": version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": devices.describe(),
        "compiler_flags": jax_settings.compiler_flags(),
    }
    if isinstance(lab, Lab):
        metadata["loss_unit"] = lab.loss_unit
    if request.sweep is not None:
        sweep = lab.sweeps[request.sweep]
        metadata |= {"sweep": request.sweep, "question": sweep.question}
    if data is not None:
        metadata["dataset"] = data.dataset
    if isinstance(data, DataModule):
        metadata["not_comparable_reason"] = not_comparable_reason(request, config, data)
    return metadata


def _absolute_paths(config: CommonConfig) -> dict[str, str]:
    """Returns the settings that are paths, as absolute paths."""
    found = path_settings(type(config), config.flat())
    return {name: os.path.abspath(paths.local(path, name)) for name, path in found.items()}


def version() -> str:
    """Returns the version of jaxlabs, with the commit if it runs from a git checkout."""
    checkout = pathlib.Path(jaxlabs.__file__).parents[1]
    if not (checkout / ".git").exists():
        return jaxlabs.__version__
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return jaxlabs.__version__
    return f"{jaxlabs.__version__} (commit {commit})"


def summarize(
    request: Invocation,
    task: Task,
    data: DataModule,
    config: RunConfig,
    folder: RunFolder,
    result: TrainResult,
) -> dict[str, Any]:
    """Returns summary.json of a complete run."""
    params, seconds = result.state.params, result.seconds
    steps = int(result.state.step)
    parameters = count_parameters(params)
    metrics = _final_metrics(folder, result)
    metrics |= request.lab.analyze(config, task, data, result.state, folder)
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "dataset": data.dataset["name"],
        "seed": config.seed,
        "steps": steps,
        "parameters": parameters,
        "parameters_sha256": _sha256(params),
        "seconds": seconds,
        "steps_per_second": steps / seconds if seconds else None,
        "compile_seconds": result.compile_seconds,
        "evaluation_seconds": result.evaluation_seconds,
        "peak_memory_bytes": _peak_memory(),
        "metrics": metrics,
        "baselines": data.baselines(),
        "comparison": published.compare(
            request.lab.published,
            request.preset,
            metrics | {"parameters": parameters, "seconds": seconds},
            not_comparable_reason=not_comparable_reason(request, config, data),
        ),
        "environment": folder.read_config()["versions"] | devices.describe(),
    }


def update_metrics(
    request: Invocation, config: RunConfig, data: DataModule, summary: dict[str, Any], metrics: dict
) -> dict[str, Any]:
    """Returns the entries of a run's summary that change with new `metrics` of its analysis."""
    metrics = summary["metrics"] | metrics
    known = metrics | {name: summary[name] for name in ("parameters", "seconds")}
    comparison = published.compare(
        request.lab.published,
        request.preset,
        known,
        not_comparable_reason=not_comparable_reason(request, config, data),
    )
    return {"metrics": metrics, "comparison": comparison}


def summarize_study(
    request: Invocation, config: CommonConfig, result: StudyResult, seconds: float
) -> dict[str, Any]:
    """Returns summary.json of a study."""
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "seed": config.seed,
        "seconds": seconds,
        "peak_memory_bytes": _peak_memory(),
        "metrics": result.metrics,
        "comparison": published.compare(request.lab.published, request.preset, result.metrics),
        "environment": devices.describe(),
    } | result.extra


def summarize_sweep(
    request: Invocation, sweep: Sweep, runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns summary.json of a sweep: its runs, and the comparison of their settings.

    Args:
      request: the command line.
      sweep: the settings of the runs.
      runs: the runs, each with `point` (its settings) and with `metrics`, `seconds` and
        `comparison` of its summary.
    """
    groups = compare_groups(runs, sweep.metrics)
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "sweep": request.sweep,
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


def not_comparable_reason(request: Invocation, config: RunConfig, data: DataModule) -> str:
    """Returns why a run is not comparable with published results; empty if it is."""
    if not data.comparable:
        return f"trained on {data.dataset['name']}, not on the published data"
    preset = request.preset_config().identity()
    changed = [name for name, value in config.identity().items() if value != preset[name]]
    changed = [name for name in changed if name not in NON_SEMANTIC_SETTINGS]
    return f"other settings than the preset's: {', '.join(changed)}" if changed else ""


def _sha256(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(params)):
        digest.update(np.ascontiguousarray(leaf).astype(leaf.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _peak_memory() -> int:
    """Returns the peak memory in bytes: of the device if it reports one, else of the process."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    process_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return statistics.get("peak_bytes_in_use", process_peak)
