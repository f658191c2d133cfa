"""What a command can do with a run folder: train, sample, evaluate, export, and two diagnoses."""

import dataclasses
import sys
from collections.abc import Mapping

import jax

from jaxlabs import keys
from jaxlabs.data.splits import Data
from jaxlabs.lab import Request
from jaxlabs.opening import opened
from jaxlabs.report.page import write_drawn, write_report
from jaxlabs.restoring import load_data, require_data_given, restore, stored_precision
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.summary import measured_again, summarise
from jaxlabs.training import devices, loop, precision
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import Placement
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.export import export_safetensors
from jaxlabs.training.full_batch import require_whole_set
from jaxlabs.training.loop import Outcome, require_divides
from jaxlabs.training.lr_range import range_test, require_rate
from jaxlabs.training.replay import replay
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState, count_parameters
from jaxlabs.training.task import Task


def carry_out(request: Request) -> None:
    """Does what a lab's command line asks for; raises UserError for bad input."""
    if request.mode == "train":
        train(request)
    else:
        modes = {"sample": _sample, "evaluate": _evaluate, "analyse": _analyse, "export": _export}
        modes[request.mode](request)


def train(request: Request, *, draw: bool = True) -> None:
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
    with opened(request, config, data, {precision.SETTING: chosen}) as folder:
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
        # Here the last checkpoint is written, whatever came in between.
        if outcome is not None and outcome.interrupted:
            if main:
                step = int(outcome.state.step)
                print(
                    f"stopped at step {step} of {config.steps} and saved; the same command goes on"
                )
            return
        if outcome is not None and main:
            # One process works alone from here on, so it must not hold arrays of all of them.
            outcome = dataclasses.replace(outcome, state=devices.to_host(outcome.state))
            _finish(request, task, data, config, folder, outcome)
            if draw:
                print(f"report: {write_report(folder)}")


def _fold(request, task, data, config, folder, placement, checkpoints) -> Outcome | None:
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
    request: Request, task: Task, data: Data, config: RunConfig, folder: RunFolder, outcome: Outcome
) -> None:
    """Samples and measures the trained model and writes summary.json."""
    state = outcome.state
    key = jax.random.fold_in(keys.stream(config.seed, "sample"), state.step)
    sample = request.lab.sample(config, task, data.vocabulary, state, key)
    path = folder.write_sample("final", sample)
    print(path if isinstance(sample, Mapping) else sample)
    summary = summarise(request, task, data, config, folder, outcome)
    folder.write_summary(summary)
    for name, value in summary["metrics"].items():
        print(f"{name} {float('nan') if value is None else value:.4f}")


def _range_test(
    task: Task, data: Data, config: RunConfig, folder: RunFolder, placement: Placement
) -> None:
    curve = range_test(task, data, config, placement)
    if devices.is_main_process():
        folder.write_arrays("lr_range", **curve)
        print(f"learning-rate range test: {write_report(folder)}")


def _sample(request: Request) -> None:
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


def _evaluate(request: Request) -> None:
    config, task, _, state = restore(request)
    data = load_data(request, config)
    placement = devices.data_parallel()
    require_divides(config, placement)
    evaluator = Evaluator(task, placement, config)
    for split, examples in data.evaluations.items():
        for name, value in evaluator(state, placement.replicate(examples)).items():
            print(f"{split}/{name} {value:.4f}")


def _analyse(request: Request) -> None:
    """Measures and draws a finished run again, with other runtime settings if there are any."""
    config, task, _, state = restore(request)
    data, folder = load_data(request, config), request.folder()
    with folder.writer():
        summary = folder.read_summary()
        figures = request.lab.analyse(config, task, data, devices.to_host(state), folder)
        folder.write_summary(summary | measured_again(request, config, data, summary, figures))
        for name, value in figures.items():
            print(f"{name} {value:.4f}")
        print(f"report: {write_report(folder)}")


def _export(request: Request) -> None:
    config, _, facts, state = restore(request)
    require_data_given(request)
    path = request.folder().path / "parameters.safetensors"
    metadata = {
        "settings": config.flat(),
        "vocabulary": facts["vocabulary"],
        "step": int(state.step),
    }
    export_safetensors(state.evaluation_params, path, metadata)
    print(f"{path}: {count_parameters(state.params):,} parameters of step {int(state.step)}")
