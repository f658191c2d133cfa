"""Checks what a lab inherits from the training loop: seven properties, in about a minute.

    jaxlabs check gpt
    jaxlabs check my_lab.py --batch_size=16

overfits one batch         Adam halves the loss of one batch
micro-batches = the batch  two micro-batches have the loss and the gradients of the whole batch
gradients = differences    gradients equal central differences in float64
sampler                    one key gives one sample; another key compiles nothing
compiles once              training compiles its step once
resumes in a new process   four steps, the last two of them in another process, give the same bits
1 = 4 devices              four devices give the loss and the gradients of one

Each line is PASS, FAIL or SKIP with its number or reason; the status is 1 if one is FAIL. The
settings are those of the first preset with batches of 8, and the given flags of the lab.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlabs import keys, labs
from jaxlabs.config import UserError
from jaxlabs.data.dataset import DataModule
from jaxlabs.report import html
from jaxlabs.run_folder import RunFolder, Sample
from jaxlabs.runner import call
from jaxlabs.runner.flags import error_line, parse
from jaxlabs.runner.lab import Invocation, Lab, Study
from jaxlabs.runner.lab_source import FILE
from jaxlabs.runner.sweep_plan import flag_value
from jaxlabs.training import checks, devices, jax_settings
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.checks import Failed
from jaxlabs.training.devices import DataParallel
from jaxlabs.training.optimizer_config import FULL_BATCH
from jaxlabs.training.precision import with_precision
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import leaf_names
from jaxlabs.training.task import Task, require_trainable
from jaxlabs.training.trainer import Trainer, initial_state

SMALL = {"batch_size": 8, "eval_batch_size": 8, "grad_accum_steps": 1}
"""Settings on top of the preset, below the given ones; not for full-batch optimizers."""

STEPS, RESUMED_AT = 4, 2
SHORT = {
    "steps": STEPS,
    "checkpoint_every": RESUMED_AT,
    "eval_every": STEPS,
    "keep_checkpoints": STEPS,
    "steps_per_call": RESUMED_AT,
    "lr_schedule": "constant",
    "warmup_steps": 0,
}
"""Settings on top of all others: a run of a few steps, the schedule at its peak."""

DEVICES = 4

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


class Row(NamedTuple):
    """One line: the property, PASS, FAIL or SKIP, and its number or reason."""

    name: str
    verdict: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict}  {self.name:25}  {self.text}"


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The lines of a check; it shows itself as them, and in a notebook as a table.

    Attributes:
      rows: one for each property.
    """

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether no property fails."""
        return all(row.verdict != FAIL for row in self.rows)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        cells = [[html.text(cell) for cell in row] for row in self.rows]
        return html.table(["property", "verdict", "number or reason"], cells)


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
        name, folder = options.process
        result = PROCESSES[name](_setup(invocation), pathlib.Path(folder))
        pathlib.Path(folder, RESULT).write_text(json.dumps(result), encoding="utf-8")
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
    found = _require_lab(lab if isinstance(lab, Lab | Study) else labs.load(lab))
    with call.session():
        invocation = call.training(found, preset, None, False, settings)
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
        raise UserError(f"--{name}: not accepted by check, which trains one run of {STEPS} steps")
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


class Setup(NamedTuple):
    """A lab with small settings, its data and task, on one device."""

    lab: Lab
    config: RunConfig
    data: DataModule
    task: Task
    placement: DataParallel


def _setup(invocation: Invocation) -> Setup:
    lab, preset = invocation.lab, dict(invocation.lab.presets[invocation.preset])
    devices.start(invocation.config().platform)
    own = preset | invocation.stored
    given = own | invocation.overrides
    small = {} if given.get("optimizer") in FULL_BATCH else SMALL
    values = own | small | invocation.overrides | SHORT
    config = with_precision(lab.config_class.from_flat(values), "highest")
    data = lab.load_data(config)
    task = lab.build_task(config, data.data_spec)
    require_trainable(task, config, data.train)
    few = slice(config.eval_batch_size)
    sets = {name: examples.take(few) for name, examples in data.eval_sets.items()}
    data = dataclasses.replace(data, eval_sets=sets, final_eval_sets=dict)
    return Setup(lab, config, data, task, devices.data_parallel(jax.devices()[:1]))


def _rows(invocation: Invocation, name: str | None, show: Callable[[str], None]) -> Iterator[Row]:
    """Yields the rows; other processes start at once and work while this one does."""
    setup = _setup(invocation)
    case = checks.make_case(setup.task, setup.config, setup.placement, setup.data.train)
    here = {
        "overfits one batch": lambda: checks.overfits_one_batch(case),
        "micro-batches = the batch": lambda: _micro_batches(setup, case),
        "gradients = differences": lambda: checks.gradients_equal_differences(case),
        "sampler": lambda: _sampler(setup),
    }
    elsewhere = ("compiles once", "resumes in a new process", f"1 = {DEVICES} devices")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        flags = [f"--preset={invocation.preset}"]
        if invocation.config_file is not None:
            flags += [f"--config={invocation.config_file}"]
        flags += [f"--{key}={flag_value(value)}" for key, value in invocation.overrides.items()]
        start = None if name is None else functools.partial(_process, name, flags)
        root = pathlib.Path(folder)
        trained = thread.submit(_trained, start, root / "run")
        resumed = thread.submit(_resumed, start, root / "run", root / "resumed")
        shared = thread.submit(_shared, start, root / "devices")
        waits = dict(zip(elsewhere, (trained, resumed, shared), strict=True))
        for title, action in (here | {key: wait.result for key, wait in waits.items()}).items():
            show(f"checking: {title}")
            yield _row(title, action)


def _row(name: str, action: Callable[[], str]) -> Row:
    try:
        return Row(name, PASS, action())
    except Skipped as reason:
        return Row(name, SKIP, str(reason))
    except (Failed, UserError) as error:
        return Row(name, FAIL, str(error))
    except Exception as error:  # whatever the lab raises
        text = " ".join(str(error).split())
        return Row(name, FAIL, f"{type(error).__name__}: {text[:300]}")


class Skipped(Exception):
    """A property that a lab does not have; the message is the reason."""


def _micro_batches(setup: Setup, case: checks.Case) -> str:
    if setup.task.batch_coupled:
        raise Skipped("batch-coupled: not applicable")
    return checks.micro_batches_equal_the_batch(case)


def _sampler(setup: Setup) -> str:
    """Samples twice with one key, and once with another."""
    state = devices.to_host(initial_state(setup.task, setup.config, setup.placement))

    def sample(number: int) -> Sample:
        key = keys.at_step(setup.config.seed, "sample", number)
        return setup.lab.sample(setup.config, setup.task, setup.data.data_spec, state, key)

    first, again = sample(0), sample(0)
    if not _equal(first, again):
        raise Failed("two samples with one key differ")
    with _compilations() as compiled:
        sample(1)
    if compiled:
        raise Failed(f"another key compiles {len(compiled)} programs")
    return "one key gives one sample; another key compiles nothing"


@contextlib.contextmanager
def _compilations() -> Iterator[list[str]]:
    """Yields a list that grows by one with every compiled program."""
    found = []

    def listen(name: str, seconds: float, **_: Any) -> None:
        if name == "/jax/core/compile/backend_compile_duration":
            found.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _equal(one: Sample, other: Sample) -> bool:
    if isinstance(one, Mapping):
        return all(np.array_equal(one[name], other[name]) for name in one)
    return one == other


RESULT = "result.json"

CHILD = "JAXLABS_CHECK_PROCESS"
"""Environment variable of the other processes."""

MAIN = 'if __name__ == "__main__":'


def _process(
    name: str, flags: Sequence[str], process: str, folder: pathlib.Path, devices: int = 1
) -> Any:
    """Runs one of `PROCESSES` in a new process and returns its result.

    Raises:
      Failed: the process failed; the last line of its errors.
    """
    folder.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "jaxlabs", "check", "--process", process, str(folder)]
    variables = os.environ | {CHILD: "1"}
    if devices > 1:
        count = f"--xla_force_host_platform_device_count={devices}"
        variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} {count}"
        flags = [*flags, "--platform=cpu"]
    ended = subprocess.run(
        [*arguments, name, *flags], env=variables, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        lines = ended.stderr.split("\n")
        raise Failed(next((line for line in reversed(lines) if line.strip()), "no message"))
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


def _trained(start: Callable[..., Any] | None, folder: pathlib.Path) -> str:
    if start is None:
        raise Skipped("the lab is not in a file, which another process could load")
    found = start("train", folder)
    if found["recompiled"]:
        raise Failed(found["recompiled"][0])
    return f"one compilation for {found['calls']} calls"


def _resumed(start: Callable[..., Any] | None, whole: pathlib.Path, folder: pathlib.Path) -> str:
    if start is None:
        raise Skipped("the lab is not in a file, which another process could load")
    if not (whole / RESULT).exists():
        raise Failed("the run did not end")
    shutil.copytree(whole, folder)
    shutil.rmtree(RunFolder(folder).checkpoints / str(STEPS))
    ours, theirs = (
        json.loads((whole / RESULT).read_text(encoding="utf-8"))["sha256"],
        start("train", folder)["sha256"],
    )
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        where = f"{differing[0]} among them" if len(differing) > 1 else differing[0]
        raise Failed(f"{len(differing)} of {len(ours)} arrays differ after {STEPS} steps; {where}")
    return f"{len(ours)} arrays are the same bits after {STEPS} steps"


def _shared(start: Callable[..., Any] | None, folder: pathlib.Path) -> str:
    if start is None:
        raise Skipped("the lab is not in a file, which another process could load")
    row = start("devices", folder, devices=DEVICES)
    if row["verdict"] != PASS:
        raise Failed(row["text"])
    return row["text"]


def _train(setup: Setup, path: pathlib.Path) -> dict[str, Any]:
    """Trains in a folder, from its newest checkpoint if there is one."""
    folder, calls = RunFolder(path), []

    class Counted(Trainer):
        def train_chunk(self, state, until):
            calls.append(until)
            return super().train_chunk(state, until)

    with (
        warnings.catch_warnings(record=True) as caught,
        Checkpoints(folder.checkpoints, STEPS) as checkpoints,
    ):
        warnings.simplefilter("always")
        result = Counted(
            setup.task,
            setup.data,
            setup.config,
            setup.placement,
            folder,
            checkpoints,
            {"data_spec": setup.data.data_spec},
        ).train()
    messages = [str(warning.message) for warning in caught]
    leaves = jax.device_get(jax.tree.leaves(result.state))
    return {
        "calls": len(calls),
        "recompiled": [line for line in messages if line.startswith("recompiled")],
        "sha256": {
            name: hashlib.sha256(leaf.tobytes()).hexdigest()
            for name, leaf in zip(leaf_names(result.state), leaves, strict=True)
        },
    }


def _devices(setup: Setup, folder: pathlib.Path) -> dict[str, str]:
    """Compares one device with all of this process."""
    del folder
    case = checks.make_case(setup.task, setup.config, setup.placement, setup.data.train)
    placements = (setup.placement, devices.data_parallel())
    row = _row("devices", lambda: checks.devices_equal_one(case, placements))
    return row._asdict()


PROCESSES = {"train": _train, "devices": _devices}
"""What other processes do."""
