"""The properties of a check that need other processes, and what these processes do.

A process runs `jaxlabs check --process JOB FOLDER LAB [flags]`, with a job of `JOBS`. It writes
its result into the folder.
"""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.check_result import PASS, make_row
from jaxlabs.runner.check_setup import STEPS, Setup, make_setup
from jaxlabs.runner.lab import Invocation
from jaxlabs.training import checks, devices
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.checks import Failed
from jaxlabs.training.state import leaf_names
from jaxlabs.training.trainer import Trainer

DEVICES = 4

RESULT = "result.json"

CHILD = "JAXLABS_CHECK_PROCESS"
"""Environment variable of the other processes."""


class Processes(NamedTuple):
    """Other processes that load a lab."""

    lab: str  #: name of the lab, or path of its file
    flags: Sequence[str]
    folder: pathlib.Path  #: each process has a folder in it

    def result(self, job: str, name: str, *, devices: int = 1) -> Any:
        """Runs one of `JOBS` in a new process and returns its result.

        Args:
          job: name of the job.
          name: name of the folder.
          devices: number of devices; with more than one, these are of the CPU.

        Raises:
          Failed: the process failed; the last line of its errors.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "jaxlabs", "check", "--process", job, str(folder)]
        variables, flags = os.environ | {CHILD: "1"}, self.flags
        if devices > 1:
            count = f"--xla_force_host_platform_device_count={devices}"
            variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} {count}"
            flags = [*flags, "--platform=cpu"]
        ended = subprocess.run(
            [*command, self.lab, *flags], env=variables, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            lines = ended.stderr.split("\n")
            raise Failed(next((line for line in reversed(lines) if line.strip()), "no message"))
        return read_result(folder)


def read_result(folder: pathlib.Path) -> Any:
    """Returns the result of a process.

    Raises:
      Failed: it has none.
    """
    try:
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed("the run did not end") from None


def compiles_once(processes: Processes) -> str:
    """Trains in a new process."""
    found = processes.result("train", "run")
    if found["recompiled"]:
        raise Failed(found["recompiled"][0])
    return f"one compilation for {found['calls']} calls"


def resumes(processes: Processes) -> str:
    """Repeats the last steps of the run of `compiles_once` from a checkpoint."""
    whole, folder = processes.folder / "run", processes.folder / "resumed"
    ours = read_result(whole)["sha256"]
    shutil.copytree(whole, folder)
    shutil.rmtree(RunFolder(folder).checkpoints / str(STEPS))
    theirs = processes.result("train", folder.name)["sha256"]
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        where = f"{differing[0]} among them" if len(differing) > 1 else differing[0]
        raise Failed(f"{len(differing)} of {len(ours)} arrays differ after {STEPS} steps; {where}")
    return f"{len(ours)} arrays are the same bits after {STEPS} steps"


def devices_equal_one(processes: Processes) -> str:
    """Compares one device with several in a new process, which has these devices."""
    found = processes.result("devices", "devices", devices=DEVICES)
    if found["verdict"] != PASS:
        raise Failed(found["text"])
    return found["text"]


def run_job(job: str, folder: pathlib.Path, invocation: Invocation) -> None:
    """Does one of `JOBS` in this process, which `Processes.result` has started."""
    result = JOBS[job](make_setup(invocation), folder)
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


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


def _compare_devices(setup: Setup, folder: pathlib.Path) -> dict[str, str]:
    """Compares one device with all of this process."""
    del folder
    case = checks.make_case(setup.task, setup.config, setup.placement, setup.data.train)
    placements = (setup.placement, devices.data_parallel())
    check = functools.partial(checks.devices_equal_one, case, placements)
    return make_row("devices", check)._asdict()


JOBS = {"train": _train, "devices": _compare_devices}
"""What other processes do."""
