"""Multi-process runs: joining the processes, and one error line when a process is lost.

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


def join(coordinator: str, num_processes: int, process_id: int, wait: int = JOIN_SECONDS) -> None:
    """Joins the other processes of a run; call it before creating any array.

    Args:
      coordinator: host:port of process 0.
      num_processes: number of processes.
      process_id: index of this process.
      wait: timeout in seconds.

    Raises:
      UserError: they could not connect (an older runtime ends the process, with the same line), or
        this is Windows, where JAX has no collectives between processes.
    """
    if sys.platform == "win32":
        raise ArgumentError("num_processes", "several processes need Linux or macOS")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM
    line = (
        f"--coordinator: the {num_processes} processes of the run could not connect to"
        f" {coordinator} within {wait} s; start all of them, with the address and a free port of"
        " process 0"
    )
    _redirect_stderr(line)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=wait,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception:
        raise UserError(line) from None
    _joined.status = STATUS
    _joined.line = (
        f"process {process_id} of {num_processes}: another process of the run was lost; restart"
        " all of them to resume"
    )


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
