"""What one command does: a mode of a lab (train, sample, evaluate, ...), or a study."""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax

from jaxlabs import keys
from jaxlabs.report.page import write_report, write_samples
from jaxlabs.run_folder import Sample
from jaxlabs.runner import plan
from jaxlabs.runner.lab import Invocation
from jaxlabs.runner.restore import require_same_data, restore, restore_with_data
from jaxlabs.runner.run_context import RunContext, open_run, open_training
from jaxlabs.runner.standard_streams import for_display
from jaxlabs.runner.summary import (
    measure_baselines,
    summarize,
    summarize_study,
    update_metrics,
)
from jaxlabs.training import compile_cache, devices, hosts, signals
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.export import export_safetensors
from jaxlabs.training.lr_finder import range_test
from jaxlabs.training.replay import replay
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import TrainState, count_parameters
from jaxlabs.training.trainer import Trainer, TrainResult, require_divides


def run(invocation: Invocation) -> None:
    """Runs the mode of a lab's command line; raises UserError for invalid input."""
    modes = {
        "train": train,
        "sample": _sample,
        "evaluate": _evaluate,
        "analyze": _analyze,
        "export": _export,
        "lr_range": _lr_range,
        "replay": _replay,
        "plan": plan.run,
    }
    modes[invocation.mode](invocation)


def measure(invocation: Invocation, *, quiet: bool = False) -> None:
    """Runs a study, unless its run folder is already complete.

    Args:
      invocation: the command line.
      quiet: whether to print no results and no path of the report; the study itself may print.
    """
    echo = _nothing if quiet else print
    lab, config = invocation.lab, invocation.config()
    devices.start(config.platform)
    compile_cache.enable(config.data_dir)
    data = lab.load_data(config) if lab.load_data else None
    with open_run(invocation, config, data) as folder:
        if folder.is_complete():
            echo(f"run already complete; report: {write_report(folder, lab)}")
            return
        if data is not None and data.warning:
            print(data.warning, file=sys.stderr)
        start = time.perf_counter()
        result = lab.measure(config, folder, *([] if data is None else [data]))
        summary = summarize_study(invocation, config, result, time.perf_counter() - start)
        folder.write_sample("final", result.text)
        folder.write_summary(summary)
        echo(result.text)
        echo(f"report: {write_report(folder, lab)}")


def train(invocation: Invocation, *, report: bool = True, quiet: bool = False) -> None:
    """Trains to the last step, unless the run is already complete.

    Args:
      invocation: the command line.
      report: whether a complete run gets its report; the runs of a sweep do not.
      quiet: whether to print no results and no path of the report; lab and callbacks may print.
    """
    echo = _nothing if quiet else print
    with open_training(invocation) as context:
        main = devices.is_main_process()
        with _open_checkpoints(context) as checkpoints:
            steps = _complete_steps(context, checkpoints)
            # Before training: what fails here must not cost a trained model its summary.
            baselines = measure_baselines(context.data) if main and steps is None else {}
            result = None if steps is not None else _train(invocation, context, checkpoints)
        if result is not None:
            # The main process continues alone, so it must not hold arrays of all processes.
            state = devices.state_to_host(result.state.without_optimizer())
            result = dataclasses.replace(result, state=state)
        hosts.leave()
        if result is None:
            if main:
                path = write_report(context.folder, invocation.lab)
                echo(f"run already complete ({steps} steps); report: {path}")
        elif result.interrupted:
            raise _interrupted(context, result)
        elif main:
            with signals.during("after training"):
                _finish(invocation, context, result, baselines, echo)
                if report:
                    echo(f"report: {write_report(context.folder, invocation.lab)}")


def _nothing(text: object) -> None:
    """Prints nothing."""


@contextlib.contextmanager
def _open_checkpoints(context: RunContext) -> Iterator[Checkpoints]:
    """Opens the checkpoints of a run for writing; raises UserError if they are of another one."""
    with Checkpoints(context.folder.checkpoints, context.config.keep_checkpoints) as checkpoints:
        checkpoints.require_run(type(context.config), context.folder.read_config())
        yield checkpoints


def _complete_steps(context: RunContext, checkpoints: Checkpoints) -> int | None:
    """Returns the number of steps of a complete run; None if there is something left to do."""
    if not context.folder.is_complete():
        return None
    steps = context.folder.read_summary().get("steps")
    return steps if steps in checkpoints.steps() else None


def _train(invocation: Invocation, context: RunContext, checkpoints: Checkpoints) -> TrainResult:
    """Trains from the newest checkpoint to the last step or until a signal."""
    data, config = context.data, context.config

    def sample(state: TrainState) -> Sample:
        return _sample_state(invocation, context, state)

    metadata = {"data_spec": data.data_spec, "dataset": data.dataset, "settings": config.identity()}
    return Trainer(
        task=context.task,
        data=data,
        config=context.tuned_config,
        placement=context.placement,
        folder=context.folder,
        checkpoints=checkpoints,
        metadata=metadata,
        sample=sample if invocation.lab.sample else None,
        callbacks=invocation.lab.callbacks,
        read_weights=context.read_weights,
        tokens_per_evaluation=context.tokens_per_evaluation,
    ).train()


def _sample_state(invocation: Invocation, context: RunContext, state: TrainState) -> Sample:
    """Samples during training; the key depends on the seed and the step."""
    config, data_spec = context.config, context.data.data_spec
    key = keys.at_step(config.seed, "sample", state.step)
    return invocation.lab.sample(config, context.task, data_spec, state, key)


def _interrupted(context: RunContext, result: TrainResult) -> Interrupted:
    """Returns what to raise once the checkpoints are closed and the last one is on disk."""
    step = int(result.state.step)
    # In a run of several processes, another one may have received the signal.
    number = signals.requested() or signal.SIGTERM
    return Interrupted(number, f"at step {step}/{context.config.steps}, checkpoint saved")


def _finish(
    invocation: Invocation,
    context: RunContext,
    result: TrainResult,
    baselines: Mapping[str, float],
    echo: Callable[[object], None],
) -> None:
    """Samples and analyzes the trained model, writes summary.json, and prints the results."""
    shown = []
    if invocation.lab.sample:
        sample = _sample_state(invocation, context, result.state)
        path = context.folder.write_sample("final", sample)
        shown = [path if isinstance(sample, Mapping) else for_display(sample)]
    summary = summarize(invocation, context, result, baselines)
    context.folder.write_summary(summary)
    for text in shown:
        echo(text)
    for name, value in summary["metrics"].items():
        echo(f"{name} {float('nan') if value is None else value:.4f}")


def _lr_range(invocation: Invocation) -> None:
    with open_training(invocation) as context:
        curve = range_test(context.task, context.data, context.tuned_config, context.placement)
        if devices.is_main_process():
            context.folder.write_arrays("lr_range", **curve)
            report = write_report(context.folder, invocation.lab)
            print(f"learning-rate range test: {report}")


def _replay(invocation: Invocation) -> None:
    with open_training(invocation) as context, _open_checkpoints(context) as checkpoints:
        values = replay(
            context.task,
            context.data,
            context.tuned_config,
            context.placement,
            checkpoints,
            invocation.replay_step,
            context.read_weights,
        )
        if devices.is_main_process():
            print("\n".join(f"{value:12.6g}  {name}" for name, value in values.items()))


def _for_one_process(state: TrainState) -> TrainState:
    """Returns a state for the main process alone; the others leave. All processes call this."""
    if jax.process_count() > 1:
        state = devices.state_to_host(state)
        hosts.leave()
    return state


def _sample(invocation: Invocation) -> None:
    config, task, data_spec, state, _ = restore(invocation)
    require_same_data(invocation)
    state = _for_one_process(state)
    if not devices.is_main_process():
        return
    key = keys.stream(config.sample_seed, "draw")
    sample = invocation.lab.sample(config, task, data_spec, state, key)
    if not isinstance(sample, Mapping):
        print(for_display(sample))
        return
    folder = invocation.folder()
    print(folder.write_sample("sampled", sample))
    if "images" in sample:
        print(write_samples(folder, sample["images"]))


def _evaluate(invocation: Invocation) -> None:
    for split, metrics in evaluate(*restore_with_data(invocation)).items():
        for name, value in metrics.items():
            if devices.is_main_process():
                print(f"{split}_{name} {value:.4f}")


def evaluate(context: RunContext, state: TrainState) -> dict[str, dict[str, float]]:
    """Returns the metrics by evaluation set, with those of the end of the training.

    Raises:
      UserError: the evaluation batch does not divide over the devices.
    """
    config = context.tuned_config
    require_divides(config, context.placement)
    evaluator = Evaluator(context.task, context.placement, config, context.data)
    sets = context.data.eval_sets | context.data.final_eval_sets()
    return {
        split: evaluator(state, context.placement.replicate(examples))
        for split, examples in sets.items()
    }


def _analyze(invocation: Invocation) -> None:
    """Analyzes a complete run again, with the given runtime settings, and rewrites its report."""
    context, state = restore_with_data(invocation)
    folder, lab, state = context.folder, invocation.lab, devices.state_to_host(state)
    hosts.leave()
    if not devices.is_main_process():
        return
    with folder.writer():
        summary = folder.read_summary()
        metrics = lab.analyze(context.tuned_config, context.task, context.data, state, folder)
        folder.write_summary(summary | update_metrics(invocation, context, summary, metrics))
        for name, value in metrics.items():
            print(f"{name} {value:.4f}")
        print(f"report: {write_report(folder, lab)}")


def _export(invocation: Invocation) -> None:
    config, _, data_spec, state, _ = restore(invocation)
    require_same_data(invocation)
    state = _for_one_process(state)
    if not devices.is_main_process():
        return
    path, step = invocation.folder().path / "parameters.safetensors", int(state.step)
    header = {"settings": config.flat(), "data_spec": data_spec, "step": step}
    export_safetensors(state.eval_params, path, header)
    print(f"{path}: {count_parameters(state.params):,} parameters of step {step}")
