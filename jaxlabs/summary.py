"""What a run says of itself: config.json when it starts, summary.json when it has ended."""

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
from jaxlabs.data.dataset import Data
from jaxlabs.lab import Invocation, Lab, StudyData, StudyResult
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import Sweep, compare_groups, run_name
from jaxlabs.training import devices, jax_settings
from jaxlabs.training.loop import TrainResult
from jaxlabs.training.run_config import CommonConfig, RunConfig
from jaxlabs.training.state import count_parameters
from jaxlabs.training.task import Task

NON_SEMANTIC_SETTINGS = ("seed", "grad_accum_steps", "eval_batch_size")
"""Settings that change a figure by chance or by rounding only."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(
    request: Invocation, config: CommonConfig, data: Data | StudyData | None
) -> dict[str, Any]:
    """Returns config.json: all settings, versions, device, data set."""
    lab = request.lab
    facts = {
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
        facts["loss_unit"] = lab.loss_unit
    if request.sweep is not None:
        sweep = lab.sweeps[request.sweep]
        facts |= {"sweep": request.sweep, "question": sweep.question}
    if data is not None:
        facts["dataset"] = data.dataset
    if isinstance(data, Data):
        facts["not_comparable_reason"] = why_not_comparable(request, config, data)
    return facts


def _absolute_paths(config: CommonConfig) -> dict[str, str]:
    """Returns the settings that are paths such that they hold in every working directory."""
    found = path_settings(type(config), config.flat())
    return {name: os.path.abspath(paths.local(path, name)) for name, path in found.items()}


def version() -> str:
    """Returns the version of jaxlabs, with the commit where it runs from a checkout."""
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
    data: Data,
    config: RunConfig,
    folder: RunFolder,
    outcome: TrainResult,
) -> dict[str, Any]:
    """Returns summary.json of a run that has taken all its steps."""
    params, seconds = outcome.state.params, outcome.seconds
    steps = int(outcome.state.step)
    parameters = count_parameters(params)
    metrics = _final_metrics(folder, outcome)
    metrics |= request.lab.analyze(config, task, data, outcome.state, folder)
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "dataset": data.dataset["name"],
        "seed": config.seed,
        "steps": steps,
        "parameters": parameters,
        "parameters_sha256": _fingerprint(params),
        "seconds": seconds,
        "steps_per_second": steps / seconds if seconds else None,
        "compile_seconds": outcome.compile_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "peak_memory_bytes": _peak_memory(),
        "metrics": metrics,
        "baselines": data.baselines(),
        "comparison": published.compare(
            request.lab.name,
            request.preset,
            metrics | {"parameters": parameters, "seconds": seconds},
            not_comparable_reason=why_not_comparable(request, config, data),
        ),
        "environment": folder.read_config()["versions"] | devices.describe(),
    }


def update_metrics(
    request: Invocation, config: RunConfig, data: Data, summary: dict[str, Any], figures: dict
) -> dict[str, Any]:
    """Returns the entries of a run's summary that change when its analysis has given `figures`."""
    metrics = summary["metrics"] | figures
    known = metrics | {name: summary[name] for name in ("parameters", "seconds")}
    not_comparable_reason = why_not_comparable(request, config, data)
    compared = published.compare(
        request.lab.name, request.preset, known, not_comparable_reason=not_comparable_reason
    )
    return {"metrics": metrics, "comparison": compared}


def summarize_study(
    request: Invocation, config: CommonConfig, findings: StudyResult, seconds: float
) -> dict[str, Any]:
    """Returns summary.json of a study."""
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "seed": config.seed,
        "seconds": seconds,
        "peak_memory_bytes": _peak_memory(),
        "metrics": findings.metrics,
        "comparison": published.compare(request.lab.name, request.preset, findings.metrics),
        "environment": devices.describe(),
    } | findings.extra


def summarize_sweep(
    request: Invocation, sweep: Sweep, runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns summary.json of a sweep: its runs, and what they say together.

    Args:
      request: the command line.
      sweep: what was run.
      runs: each with its `point`, and `metrics`, `seconds`, `parameters` and `compared` of its
        summary.
    """
    groups = compare_groups(runs, sweep.metrics)
    return {
        "experiment": request.lab.name,
        "preset": request.preset,
        "sweep": request.sweep,
        "seconds": sum(run["seconds"] or 0.0 for run in runs),
        "peak_memory_bytes": _peak_memory(),
        "metrics": {
            f"{run_name(group['settings']) or 'all'}: {name}": figure["mean"]
            for group in groups
            for name, figure in group["metrics"].items()
        },
        "groups": groups,
        "runs": [{name: run[name] for name in ("point", "metrics", "seconds")} for run in runs],
        "comparison": _compared_means(groups, runs),
        "environment": devices.describe(),
    }


def _compared_means(
    groups: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Sets means over seeds against the published figures, where nothing but the seed varies."""
    if len(groups) > 1:
        return []
    means = {name: figure["mean"] for name, figure in groups[0]["metrics"].items()}
    rows = runs[0]["comparison"]
    return [row | {"ours": means.get(row["metric"], row["ours"])} for row in rows]


def _final_metrics(folder: RunFolder, outcome: TrainResult) -> dict[str, float]:
    """Returns the training loss, the last evaluation's figures and those measured after it."""
    rows = folder.read_metrics()
    steps = int(outcome.state.step)
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
    return metrics | outcome.final_metrics


def why_not_comparable(request: Invocation, config: RunConfig, data: Data) -> str:
    """Says what keeps a run from comparison with the published figures; empty if nothing does."""
    if not data.comparable:
        return f"trained on {data.dataset['name']}, not on the published data"
    preset = request.preset_config().identity()
    changed = [name for name, value in config.identity().items() if value != preset[name]]
    changed = [name for name in changed if name not in NON_SEMANTIC_SETTINGS]
    return f"other settings than the preset's: {', '.join(changed)}" if changed else ""


def _fingerprint(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(params)):
        digest.update(np.ascontiguousarray(leaf).astype(leaf.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _peak_memory() -> int:
    """Returns bytes: the device's own peak where it keeps one, else the process's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    process_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return statistics.get("peak_bytes_in_use", process_peak)
