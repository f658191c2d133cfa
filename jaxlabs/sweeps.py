"""Carrying out a sweep: many runs of one lab, each in a folder of its own below the sweep's."""

import contextlib
import dataclasses
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import tqdm
from jax.experimental.compilation_cache import compilation_cache

from jaxlabs import modes, studies
from jaxlabs.config import UserError
from jaxlabs.lab import Invocation, Study
from jaxlabs.opening import open_run
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder
from jaxlabs.summary import summarize_sweep
from jaxlabs.sweep_plan import Sweep, run_name, told
from jaxlabs.training import devices, signals
from jaxlabs.training.loop import NonFiniteError


def run(request: Invocation) -> None:
    """Trains every run of a sweep that has not ended yet, and compares them all.

    Raises:
      UserError: a flag fixes what the sweep varies, or asks for several processes.
    """
    sweep = request.lab.sweeps[request.sweep]
    for name in request.given:
        if name in sweep.axes:
            raise UserError(f"--{name}: the sweep {request.sweep} sets it itself; leave it out")
    config = request.config()
    if config.num_processes > 1:
        raise UserError(
            f"--num_processes: {config.num_processes} is not accepted; a sweep runs in one process"
        )
    devices.start(config.platform)
    data = request.lab.load_data(config)
    if data.notice:  # the runs would each say it, and are not heard
        print(data.notice, file=sys.stderr)
    with open_run(request, config, data) as folder, compiled_programs_kept():
        runs = []
        points = tqdm.tqdm(sweep.points(), unit="run", disable=None, file=sys.stderr)
        for point in points:
            name = run_name(point)
            points.set_postfix_str(name)
            with signals.during(f"in the run {name}"):
                runs.append(_run(request, sweep, point, RunFolder(folder.runs / name)))
        folder.write_summary(summarize_sweep(request, sweep, runs))
        print(f"report: {write_report(folder)}")


def _run(
    request: Invocation, sweep: Sweep, point: dict[str, Any], folder: RunFolder
) -> dict[str, Any]:
    """Trains one run and returns its settings and figures."""
    planned = dict(sweep.settings) | dict(sweep.follow(point))
    try:
        # Its progress would bury the sweep's; what it has to say is in its folder.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            summary = complete(alone(request, planned | request.given | point, folder), draw=False)
    except NonFiniteError:  # a result too
        return {"point": point, "metrics": {}, "seconds": None, "comparison": []}
    return {"point": point} | {name: summary[name] for name in ("metrics", "seconds", "comparison")}


def alone(request: Invocation, given: Mapping[str, Any], folder: RunFolder) -> Invocation:
    """Returns the request for one run in a folder of its own, with the command line that asks so.

    Args:
      request: whose lab and preset it has.
      given: its settings on top of the preset, by flag name.
      folder: where it goes.
    """
    given = dict(given) | {"workdir": str(folder.path)}
    settings = {"preset": request.preset} | given
    flags = [f"--{name}={told(value)}" for name, value in settings.items()]
    return dataclasses.replace(
        request, sweep=None, given=given, overwrite=False, arguments=tuple(flags)
    )


def complete(single: Invocation, *, draw: bool) -> dict[str, Any]:
    """Trains or measures what a request asks for, and returns its summary.

    Args:
      single: of a lab or a study, see `alone`.
      draw: whether a lab's run gets its report; a study's always does.
    """
    if isinstance(single.lab, Study):
        studies.measure(single)
    else:
        modes.train(single, draw=draw)
    return single.folder().read_summary()


@contextlib.contextmanager
def compiled_programs_kept() -> Iterator[None]:
    """Lets runs that differ in their seed alone share their compiled programs."""
    if jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", None)
            compilation_cache.reset_cache()
