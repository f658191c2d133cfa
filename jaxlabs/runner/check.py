"""Checks what a lab inherits from the training loop: eight properties, in about a minute.

    jaxlabs check gpt
    jaxlabs check my_lab.py --batch_size=16

overfits one batch         Adam halves the loss of one batch
gradient accumulation      two micro-batches have the loss and the gradients of the whole batch
gradient check             gradients equal central differences in float64
sampler                    one key gives one sample; another key compiles nothing
sampler traceable          `Lab.sample` is traced in parameters and key, up to its copy to the host
compiles once              training compiles its step once
resumes in a new process   four steps, the last two of them in another process, give the same bits
data parallelism           four devices give the loss and the gradients of one

Each line is PASS, FAIL or SKIP with its number or reason; the status is 1 if one is FAIL. The
settings are those of the first preset with batches of 8, and the given flags of the lab.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxlabs import labs
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.runner import call, check_processes, check_sampler
from jaxlabs.runner.check_processes import CHILD, Processes
from jaxlabs.runner.check_result import CheckResult, Row, Skipped, make_row
from jaxlabs.runner.check_setup import STEPS, Setup, make_setup
from jaxlabs.runner.flags import error_line, parse
from jaxlabs.runner.lab import Invocation, Lab, Study
from jaxlabs.runner.lab_source import FILE
from jaxlabs.runner.sweep_plan import flag_value
from jaxlabs.training import checks, jax_settings

MAIN = 'if __name__ == "__main__":'

IN_PROCESSES = {
    "compiles once": check_processes.compiles_once,
    "resumes in a new process": check_processes.resumes,
    "data parallelism": check_processes.devices_equal_one,
}
"""The properties that other processes find, in this order."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("--process", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("lab", metavar="LAB", help="name of a lab, or path of its file")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="flags of the lab, --name=value")


def run(options: argparse.Namespace) -> int:
    """Prints a line for each property; returns 1 if one of them fails, else 0."""
    lab = _require_lab(labs.load(options.lab))
    try:
        with jax_settings.fixed():
            return _run(options, _parse(lab, options.flags))
    except UserError as error:
        raise UserError(error_line(lab, error)) from None


def _run(options: argparse.Namespace, invocation: Invocation) -> int:
    if options.process is not None:
        job, folder = options.process
        check_processes.run_job(job, pathlib.Path(folder), invocation)
        return 0
    rows = []
    for row in _rows(invocation, options.lab, _show):
        _show("")
        print(row, flush=True)
        rows.append(row)
    return int(not CheckResult(tuple(rows)).passed)


def check(
    lab: str | os.PathLike[str] | Lab, *, preset: str | None = None, **settings: Any
) -> CheckResult:
    """Checks a lab like `jaxlabs check`; prints nothing.

    A lab that is neither built in nor the `LAB` of a file cannot be loaded by other processes: the
    properties that need one are skipped. These processes load the file, so in a script that defines
    the lab the call is below `if __name__ == "__main__":`.

    Args:
      lab: name of a lab, path of its file, or the lab.
      preset: name of the preset; None: the first one.
      **settings: settings on top, by the name of their flag.

    Returns:
      `passed`, and in `rows` each property: `name`, `verdict` (PASS, FAIL or SKIP) and `text`.

    Raises:
      UserError: the lab or a setting is not accepted, or the data are missing.
    """
    if CHILD in os.environ:  # the child would start children, and they theirs
        raise UserError(f"jl.check: called when the lab is loaded; put it below {MAIN}")
    found = _require_lab(labs.resolve(lab))
    with call.session():
        invocation = call.training(found, settings, preset=preset)
        return CheckResult(tuple(_rows(invocation, _name_of(found), lambda text: None)))


def _require_lab(lab: Lab | Study) -> Lab:
    if not isinstance(lab, Lab):
        raise UserError(f"{lab.name!r}: a study, which has no training step; a lab is needed")
    return lab


def _parse(lab: Lab, flags: Sequence[str]) -> Invocation:
    invocation = parse(lab, flags)
    if invocation is None:
        raise UserError("--help: not accepted after the lab; before it")
    given = {
        "mode": invocation.mode != "train",
        "vary": bool(invocation.axes),
        "sweep": invocation.sweep is not None,
    }
    for name in filter(given.get, given):
        message = f"not accepted by check, which trains one run of {STEPS} steps"
        raise ArgumentError(name, message)
    return invocation


def _name_of(lab: Lab) -> str | None:
    """Returns what loads a lab in another process; None if nothing does."""
    if lab.source is not None:
        # A module of a package is loaded as part of it, by the name of its entry point.
        return lab.source.path if lab.source.source == FILE else lab.source.name
    module = sys.modules[lab.build_task.__module__]
    if getattr(module, "LAB", None) is not lab:
        return None
    return lab.name if lab.name in labs.built_in() else getattr(module, "__file__", None)


def _show(text: str) -> None:
    """Shows on a terminal what is being checked, until the next text."""
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def _rows(invocation: Invocation, name: str | None, show: Callable[[str], None]) -> Iterator[Row]:
    """Yields the rows; other processes start at once and work while this one does.

    Args:
      invocation: the lab and its flags.
      name: what loads the lab in another process; None: nothing does.
      show: shows what is being checked.
    """
    setup = make_setup(invocation)
    with _compiled_quickly():
        case = checks.make_case(setup.task, setup.config, setup.placement, setup.data.train)
    here = {
        "overfits one batch": lambda: checks.overfits_one_batch(case),
        "gradient accumulation": lambda: _micro_batches(setup, case),
        "gradient check": lambda: _gradients(case),
        "sampler": lambda: check_sampler.one_key_gives_one_sample(setup),
        "sampler traceable": lambda: check_sampler.is_traceable(setup),
    }
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        processes = None
        if name is not None:
            processes = Processes(name, _flags(invocation), pathlib.Path(folder))
        for title, action in (here | _started(processes, thread)).items():
            show(f"checking: {title}")
            yield make_row(title, action)


def _flags(invocation: Invocation) -> list[str]:
    """Returns the flags with which another process has the same settings."""
    flags = [f"--preset={invocation.preset}"]
    if invocation.config_file is not None:
        flags.append(f"--config={invocation.config_file}")
    return flags + [f"--{key}={flag_value(value)}" for key, value in invocation.overrides.items()]


def _started(
    processes: Processes | None, thread: ThreadPoolExecutor
) -> dict[str, Callable[[], str]]:
    """Starts the checks of `IN_PROCESSES`, and returns what waits for the result of each."""
    if processes is None:
        return dict.fromkeys(IN_PROCESSES, _skip)
    return {
        title: thread.submit(action, processes).result for title, action in IN_PROCESSES.items()
    }


def _skip() -> str:
    raise Skipped("the lab is not in a file, which another process could load")


def _micro_batches(setup: Setup, case: checks.Case) -> str:
    if setup.task.batch_coupled:
        raise Skipped("batch-coupled: not applicable")
    with _compiled_quickly():
        return checks.micro_batches_equal_the_batch(case)


def _gradients(case: checks.Case) -> str:
    with _compiled_quickly():
        return checks.gradients_equal_differences(case)


@contextlib.contextmanager
def _compiled_quickly() -> Iterator[None]:
    """Compiles without optimizations what runs once, in two thirds of the time.

    The programs are those of this check alone; others would stay in the caches of JAX.
    """
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
