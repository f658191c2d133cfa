"""What a command can do with a run folder: train, sample, evaluate, export, and two diagnoses."""

import dataclasses
import signal
import sys
from collections.abc import Mapping

import jax

from jaxlabs import keys
from jaxlabs.data.splits import Data
from jaxlabs.lab import Invocation
from jaxlabs.opening import open_run
from jaxlabs.report.page import write_drawn, write_report
from jaxlabs.restoring import load_data, require_data_given, restore, stored_precision
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.summary import summarize, update_metrics
from jaxlabs.training import devices, hosts, loop, precision, signals
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.export import export_safetensors
from jaxlabs.training.full_batch import require_whole_set
from jaxlabs.training.loop import TrainResult, require_divides
from jaxlabs.training.lr_range import range_test, require_rate
from jaxlabs.training.replay import replay
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import TrainState, count_parameters
from jaxlabs.training.task import Task


def run(request: Invocation) -> None:
    """Does what a lab's command line asks for; raises UserError for bad input."""
    if request.mode == "train":
        train(request)
    else:
        modes = {"sample": _sample, "evaluate": _evaluate, "analyze": _analyze, "export": _export}
        modes[request.mode](request)


def train(request: Invocation, *, draw: bool = True) -> None:
    """Trains to the last step, or carries out the diagnosis that was asked for instead.

    Args:
      request: the command line.
      draw: whether a finished run gets its report; one of many in a sweep does not.
    """
    config = request.config()
    devices.start(config.platform, config.coordinator, config.num_processes, config.process_id)
    placement = devices.data_parallel()
    require_divides(config, placement)
    data = request.lab.load_data(config)
    main = devices.is_main_process()
    chosen = precision.settle(config, stored_precision(request))
    task = request.lab.build_task(precision.with_precision(config, chosen), data.vocabulary)
    require_whole_set(task, config, data.train)
    if request.lr_range_test:
        require_rate(config)
    with open_run(request, config, data, {precision.SETTING: chosen}) as folder:
        if main and data.notice:
            print(data.notice, file=sys.stderr)
        if request.lr_range_test:
            _range_test(task, data, config, folder, placement)
            return
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            checkpoints.require_run(type(config), folder.read_config())
            if request.replay_step is not None:
                sizes = replay(task, data, config, placement, checkpoints, request.replay_step)
                if main:
                    print("\n".join(f"{value:12.6g}  {name}" for name, value in sizes.items()))
                return
            outcome = _fold(request, task, data, config, folder, placement, checkpoints)
        if outcome is not None:
            # One process works alone from here on, so it must not hold arrays of all of them.
            outcome = dataclasses.replace(outcome, state=devices.to_host(outcome.state))
        hosts.leave()
        if outcome is not None and outcome.interrupted:
            raise _interrupted(config, outcome)
        if outcome is not None and main:
            with signals.during("after training"):
                _finish(request, task, data, config, folder, outcome)
                if draw:
                    print(f"report: {write_report(folder)}")


def _interrupted(config: RunConfig, outcome: TrainResult) -> Interrupted:
    """Returns what to raise once the checkpoints are closed, and so the last one is on disk."""
    step = int(outcome.state.step)
    saved = "checkpoint saved"
    if config.optimization.optimizer == "scipy" and step == 0:
        saved = "as scipy's optimizer cannot be saved midway"
    # Where several processes agreed to stop, the signal may have come to another one.
    number = signals.requested() or signal.SIGTERM
    return Interrupted(number, f"at step {step}/{config.steps}, {saved}")


def _fold(request, task, data, config, folder, placement, checkpoints) -> TrainResult | None:
    """Trains to the last step or until a signal comes; None when there was nothing left to do."""
    main = devices.is_main_process()
    steps = folder.read_summary().get("steps") if folder.is_complete() else None
    if steps in checkpoints.steps():
        if main:
            print(f"all {steps} steps are done; report: {write_report(folder)}")
        return None

    def sample(state: TrainState) -> Sample:
        state = devices.to_host(state)
        key = jax.random.fold_in(keys.stream(config.seed, "sample"), state.step)
        return request.lab.sample(config, task, data.vocabulary, state, key)

    facts = {"vocabulary": data.vocabulary, "dataset": data.dataset, "settings": config.identity()}
    return loop.train(task, data, config, folder, placement, checkpoints, facts, sample)


def _finish(
    request: Invocation,
    task: Task,
    data: Data,
    config: RunConfig,
    folder: RunFolder,
    outcome: TrainResult,
) -> None:
    """Samples and measures the trained model and writes summary.json."""
    state = outcome.state
    key = jax.random.fold_in(keys.stream(config.seed, "sample"), state.step)
    sample = request.lab.sample(config, task, data.vocabulary, state, key)
    path = folder.write_sample("final", sample)
    summary = summarize(request, task, data, config, folder, outcome)
    folder.write_summary(summary)
    print(path if isinstance(sample, Mapping) else sample)
    for name, value in summary["metrics"].items():
        print(f"{name} {float('nan') if value is None else value:.4f}")


def _range_test(
    task: Task, data: Data, config: RunConfig, folder: RunFolder, placement: DataParallel
) -> None:
    curve = range_test(task, data, config, placement)
    if devices.is_main_process():
        folder.write_arrays("lr_range", **curve)
        print(f"learning-rate range test: {write_report(folder)}")


def _sample(request: Invocation) -> None:
    config, task, facts, state = restore(request)
    require_data_given(request)
    key = keys.stream(config.sample_seed, "draw")
    sample = request.lab.sample(config, task, facts["vocabulary"], state, key)
    if not isinstance(sample, Mapping):
        print(sample)
        return
    print(request.folder().write_sample("drawn", sample))
    if "images" in sample:
        print(write_drawn(request.folder(), sample["images"]))


def _evaluate(request: Invocation) -> None:
    config, task, _, state = restore(request)
    data = load_data(request, config)
    placement = devices.data_parallel()
    require_divides(config, placement)
    evaluator = Evaluator(task, placement, config)
    for split, examples in data.evaluations.items():
        for name, value in evaluator(state, placement.replicate(examples)).items():
            print(f"{split}/{name} {value:.4f}")


def _analyze(request: Invocation) -> None:
    """Measures and draws a finished run again, with other runtime settings if there are any."""
    config, task, _, state = restore(request)
    data, folder = load_data(request, config), request.folder()
    with folder.writer():
        summary = folder.read_summary()
        figures = request.lab.analyze(config, task, data, devices.to_host(state), folder)
        folder.write_summary(summary | update_metrics(request, config, data, summary, figures))
        for name, value in figures.items():
            print(f"{name} {value:.4f}")
        print(f"report: {write_report(folder)}")


def _export(request: Invocation) -> None:
    config, _, facts, state = restore(request)
    require_data_given(request)
    path = request.folder().path / "parameters.safetensors"
    metadata = {
        "settings": config.flat(),
        "vocabulary": facts["vocabulary"],
        "step": int(state.step),
    }
    export_safetensors(state.eval_params, path, metadata)
    print(f"{path}: {count_parameters(state.params):,} parameters of step {int(state.step)}")
