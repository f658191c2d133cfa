"""Multi-process runs: joining the processes, and one error line when a process is lost.

A command joins the processes that Slurm, Open MPI or a TPU pod has started, without a flag.

The JAX runtime monitors the processes. When one is lost it aborts the others, with pages of
internal messages on the C standard error. While processes are joined, that stream is redirected to
a file, Python's `sys.stderr` is unchanged, and a handler of SIGABRT prints one line.
"""

import ctypes
import dataclasses
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

import jax

from jaxlabs.config import ArgumentError, UserError

JOIN_SECONDS = 120
"""Timeout for all processes to connect."""

HEARTBEAT_SECONDS = 40
"""Heartbeat timeout; a broken connection is detected at once."""

STATUS = 1
"""The exit status after the loss of another process."""

LAUNCHERS = {
    "Slurm": (
        "SLURM_NTASKS",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_JOB_ID",
        "SLURM_STEP_NODELIST",
    ),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri"),
}
"""The variables by which JAX finds the other processes; the first is their number."""

TPU_VARIABLE = "TPU_ML_PLATFORM"
"""JAX sets it when it is imported on a TPU machine."""

TPU_MACHINE = "the TPU machine"

_ABORT = b"JAX distributed service detected fatal errors"
_BROKEN = re.compile("gloo|nccl|peer|connection|coordination|barrier|unavailable", re.IGNORECASE)


@dataclasses.dataclass
class _Joined:
    """State of a process of a multi-process run.

    Attributes:
      line: message if the runtime aborts.
      status: exit status if the runtime aborts.
      log: unnamed file that receives the C standard error.
      terminal: file descriptor of the original standard error.
      stderr: the original `sys.stderr`.
      on_abort: the handler of SIGABRT, kept alive because C refers to it.
    """

    line: str
    status: int
    log: BinaryIO
    terminal: int
    stderr: TextIO
    on_abort: Callable[[int], None]

    def logged(self) -> bytes:
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0)


_joined: _Joined | None = None


_is_command = False


def follow_launcher() -> None:
    """Lets the next `join` find the processes by itself; the entry point of a command calls it."""
    global _is_command
    _is_command = True


def launcher(platform: str) -> str | None:
    """Returns what has started several processes, of which this is one; None if nothing has.

    Args:
      platform: the setting; a TPU machine counts unless it is "cpu" or "gpu".
    """
    for name, (number, *others) in LAUNCHERS.items():
        if os.environ.get(number, "1") != "1" and all(other in os.environ for other in others):
            return name
    on_tpu = TPU_VARIABLE in os.environ and platform in ("auto", "tpu")
    return TPU_MACHINE if on_tpu else None


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int = 0,
    wait: int = JOIN_SECONDS,
    *,
    platform: str = "auto",
) -> None:
    """Joins the other processes of a run; call it before creating any array.

    Args:
      coordinator: host:port of process 0.
      num_processes: number of processes; 1: this one runs alone. None: those of a `launcher` if
        this process is a command and joins for the first time, else 1; so the runs of a sweep,
        which has started alone, are alone too.
      process_id: index of this process.
      wait: timeout in seconds.
      platform: see `launcher`.

    A TPU without the metadata of a pod, such as Colab's, is alone.

    Raises:
      UserError: `coordinator` is given alone; they could not connect (an older runtime ends the
        process, with the same line); or this is Windows, where JAX has no collectives between
        processes.
    """
    if coordinator is not None and num_processes is None:
        line = f"missing with `coordinator` {coordinator}; the number of processes of the run"
        raise ArgumentError("num_processes", line)
    global _is_command
    follows, _is_command = _is_command, False
    if num_processes is None and follows and (found := launcher(platform)) is not None:
        line = (
            f"--num_processes: the processes that {found} has started could not connect to each"
            f" other within {wait} s; start all of them, or each alone with --num_processes=1"
        )
        _initialize(line, wait, may_be_alone=found == TPU_MACHINE)
    elif (num_processes or 1) > 1:
        line = (
            f"--coordinator: the {num_processes} processes of the run could not connect to"
            f" {coordinator} within {wait} s; start all of them, with the address and a free port"
            " of process 0"
        )
        numbers = {"num_processes": num_processes, "process_id": process_id}
        _initialize(line, wait, coordinator_address=coordinator, **numbers)


def _initialize(line: str, wait: int, *, may_be_alone: bool = False, **arguments: Any) -> None:
    """Joins the processes; without arguments JAX finds them. `line` is the message if it fails."""
    if sys.platform == "win32":
        raise ArgumentError("num_processes", "several processes need Linux or macOS")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM
    _redirect_stderr(line)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=wait,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception as error:
        if may_be_alone and isinstance(error, ValueError):  # JAX finds no other processes
            leave()
            return
        cause = "" if arguments else f" ({str(error).splitlines()[0][:200]})"
        raise UserError(line + cause) from None
    _joined.status = STATUS
    _joined.line = "another process of the run was lost; restart all of them to resume"


def connected() -> None:
    """Names this process in the messages, once its devices are known; leaves a run of one."""
    if _joined is None:
        return
    number, count = jax.process_index(), jax.process_count()
    if count == 1:
        leave()
    else:
        _joined.line = f"process {number} of {count}: {_joined.line}"


def lost(error: Exception) -> str | None:
    """Returns one line if an error is due to the loss of another process, else None."""
    if _joined is None or not _BROKEN.search(str(error)):
        return None
    line, _joined.line = _joined.line, ""  # printed once, even if the runtime aborts as well
    return f"{line} ({str(error).splitlines()[0][:200]})"


def leave() -> None:
    """Disconnects from the other processes and prints the log of C libraries; all call it."""
    global _joined
    if _joined is None:
        return
    jax.distributed.shutdown()
    joined, _joined = _joined, None
    sys.stderr.close()
    sys.stderr, sys.excepthook = joined.stderr, sys.__excepthook__
    os.dup2(joined.terminal, 2)
    os.close(joined.terminal)
    ctypes.CDLL(None).signal(signal.SIGABRT, None)
    os.write(2, joined.logged())
    joined.log.close()


def abandon(status: int) -> None:
    """Exits from a process that is still joined, without waiting for the others."""
    if _joined is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect_stderr(line: str) -> None:
    global _joined
    sys.stderr.flush()
    log, on_abort = tempfile.TemporaryFile(), ctypes.CFUNCTYPE(None, ctypes.c_int)(_on_abort)  # noqa: SIM115
    _joined = _Joined(line, 2, log, os.dup(2), sys.stderr, on_abort)
    os.dup2(log.fileno(), 2)
    sys.stderr = open(  # noqa: SIM115
        os.dup(_joined.terminal), "w", buffering=1, encoding=sys.stderr.encoding, errors="replace"
    )
    sys.excepthook = _exit_with_traceback
    ctypes.CDLL(None).signal(signal.SIGABRT, on_abort)


def _on_abort(number: int) -> None:
    logged = _joined.logged()
    if _ABORT in logged:
        os.write(_joined.terminal, f"{_joined.line}\n".lstrip("\n").encode())
        os._exit(_joined.status)
    os.write(_joined.terminal, logged)  # another cause; on return the process aborts


def _exit_with_traceback(*error: Any) -> None:
    sys.__excepthook__(*error)
    abandon(STATUS)
