"""The modes of a lab: train, sample, evaluate, analyze, export, lr_range and replay."""

import dataclasses
import signal
import sys
from collections.abc import Mapping

import jax

from jaxlabs import keys
from jaxlabs.data.dataset import DataModule
from jaxlabs.report.page import write_report, write_samples
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.runner.lab import Invocation
from jaxlabs.runner.opening import open_run
from jaxlabs.runner.restoring import load_data, require_data_given, restore, stored_precision
from jaxlabs.runner.summary import summarize, update_metrics
from jaxlabs.training import devices, hosts, loop, precision, signals
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.export import export_safetensors
from jaxlabs.training.full_batch import require_whole_set
from jaxlabs.training.loop import TrainResult, require_divides
from jaxlabs.training.lr_finder import range_test, require_rate
from jaxlabs.training.replay import replay
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import TrainState, count_parameters
from jaxlabs.training.task import Task


def run(request: Invocation) -> None:
    """Runs the mode of a lab's command line; raises UserError for invalid input."""
    modes = {
        "train": train,
        "lr_range": train,
        "replay": train,
        "sample": _sample,
        "evaluate": _evaluate,
        "analyze": _analyze,
        "export": _export,
    }
    modes[request.mode](request)


def train(request: Invocation, *, report: bool = True) -> None:
    """Trains to the last step, or runs the learning-rate range test or the replay of one step.

    Args:
      request: the command line.
      report: whether a complete run gets its report; the runs of a sweep do not.
    """
    config = request.config()
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    placement = devices.data_parallel()
    require_divides(config, placement)
    data = request.lab.load_data(config)
    main = devices.is_main_process()
    chosen = precision.resolve_precision(config, stored_precision(request))
    task = request.lab.build_task(precision.with_precision(config, chosen), data.data_spec)
    require_whole_set(task, config, data.train)
    if request.mode == "lr_range":
        require_rate(config)
    with open_run(request, config, data, {precision.SETTING: chosen}) as folder:
        if main and data.warning:
            print(data.warning, file=sys.stderr)
        if request.mode == "lr_range":
            _range_test(request, task, data, config, folder, placement)
            return
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            checkpoints.require_run(type(config), folder.read_config())
            if request.mode == "replay":
                values = replay(task, data, config, placement, checkpoints, request.replay_step)
                if main:
                    print("\n".join(f"{value:12.6g}  {name}" for name, value in values.items()))
                return
            result = _train(request, task, data, config, folder, placement, checkpoints)
        if result is not None:
            # The main process continues alone, so it must not hold arrays of all processes.
            result = dataclasses.replace(result, state=devices.to_host(result.state))
        hosts.leave()
        if result is not None and result.interrupted:
            raise _interrupted(config, result)
        if result is not None and main:
            with signals.during("after training"):
                _finish(request, task, data, config, folder, result)
                if report:
                    print(f"report: {write_report(folder, request.lab)}")


def _interrupted(config: RunConfig, result: TrainResult) -> Interrupted:
    """Returns what to raise once the checkpoints are closed and the last one is on disk."""
    step = int(result.state.step)
    saved = "checkpoint saved"
    if config.optimization.optimizer == "scipy" and step == 0:
        saved = "no checkpoint: scipy's optimizer cannot be resumed midway"
    # In a run of several processes, another one may have received the signal.
    number = signals.requested() or signal.SIGTERM
    return Interrupted(number, f"at step {step}/{config.steps}, {saved}")


def _train(request, task, data, config, folder, placement, checkpoints) -> TrainResult | None:
    """Trains to the last step or until a signal; returns None if the run was already complete."""
    main = devices.is_main_process()
    steps = folder.read_summary().get("steps") if folder.is_complete() else None
    if steps in checkpoints.steps():
        if main:
            print(
                f"run already complete ({steps} steps); report: {write_report(folder, request.lab)}"
            )
        return None

    def sample(state: TrainState) -> Sample:
        state = devices.to_host(state)
        key = jax.random.fold_in(keys.stream(config.seed, "sample"), state.step)
        return request.lab.sample(config, task, data.data_spec, state, key)

    metadata = {"data_spec": data.data_spec, "dataset": data.dataset, "settings": config.identity()}
    return loop.train(task, data, config, folder, placement, checkpoints, metadata, sample)


def _finish(
    request: Invocation,
    task: Task,
    data: DataModule,
    config: RunConfig,
    folder: RunFolder,
    result: TrainResult,
) -> None:
    """Samples and analyzes the trained model and writes summary.json."""
    state = result.state
    key = jax.random.fold_in(keys.stream(config.seed, "sample"), state.step)
    sample = request.lab.sample(config, task, data.data_spec, state, key)
    path = folder.write_sample("final", sample)
    summary = summarize(request, task, data, config, folder, result)
    folder.write_summary(summary)
    print(path if isinstance(sample, Mapping) else sample)
    for name, value in summary["metrics"].items():
        print(f"{name} {float('nan') if value is None else value:.4f}")


def _range_test(
    request: Invocation,
    task: Task,
    data: DataModule,
    config: RunConfig,
    folder: RunFolder,
    placement: DataParallel,
) -> None:
    curve = range_test(task, data, config, placement)
    if devices.is_main_process():
        folder.write_arrays("lr_range", **curve)
        print(f"learning-rate range test: {write_report(folder, request.lab)}")


def _sample(request: Invocation) -> None:
    config, task, metadata, state = restore(request)
    require_data_given(request)
    key = keys.stream(config.sample_seed, "draw")
    sample = request.lab.sample(config, task, metadata["data_spec"], state, key)
    if not isinstance(sample, Mapping):
        print(sample)
        return
    print(request.folder().write_sample("sampled", sample))
    if "images" in sample:
        print(write_samples(request.folder(), sample["images"]))


def _evaluate(request: Invocation) -> None:
    config, task, _, state = restore(request)
    data = load_data(request, config)
    placement = devices.data_parallel()
    require_divides(config, placement)
    evaluator = Evaluator(task, placement, config)
    for split, examples in data.eval_sets.items():
        for name, value in evaluator(state, placement.replicate(examples)).items():
            print(f"{split}/{name} {value:.4f}")


def _analyze(request: Invocation) -> None:
    """Analyzes a complete run again, with the given runtime settings, and rewrites its report."""
    config, task, _, state = restore(request)
    data, folder = load_data(request, config), request.folder()
    with folder.writer():
        summary = folder.read_summary()
        metrics = request.lab.analyze(config, task, data, devices.to_host(state), folder)
        folder.write_summary(summary | update_metrics(request, config, data, summary, metrics))
        for name, value in metrics.items():
            print(f"{name} {value:.4f}")
        print(f"report: {write_report(folder, request.lab)}")


def _export(request: Invocation) -> None:
    config, _, metadata, state = restore(request)
    require_data_given(request)
    path = request.folder().path / "parameters.safetensors"
    header = {
        "settings": config.flat(),
        "data_spec": metadata["data_spec"],
        "step": int(state.step),
    }
    export_safetensors(state.eval_params, path, header)
    print(f"{path}: {count_parameters(state.params):,} parameters of step {int(state.step)}")
