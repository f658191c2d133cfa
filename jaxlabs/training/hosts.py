"""Several processes as one run: how they join, and how the others end when one of them is lost.

The runtime watches over the processes. When one is lost it aborts the others, after pages about its
own insides on the standard error of C. While processes are joined, that stream goes into a file,
Python's `sys.stderr` stays where it was, and the abort is answered with one line.
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

from jaxlabs.config import UserError

JOIN_SECONDS = 120
"""How long the processes wait for each other at the start."""

HEARTBEAT_SECONDS = 40
"""How long a process may be silent; one whose connection breaks is missed at once."""

STATUS = 1
"""The exit status of a process that lost another."""

_ABORT = b"JAX distributed service detected fatal errors"
_BROKEN = re.compile("gloo|nccl|peer|connection|coordination|barrier|unavailable", re.IGNORECASE)


@dataclasses.dataclass
class _Joined:
    """What this process holds while it is one of several.

    Attributes:
      line: what to say should the runtime abort.
      status: how to exit then.
      log: the file, without a name, into which the standard error of C goes.
      terminal: where it went before.
      stderr: Python's stream before.
      on_abort: the handler of SIGABRT, which C knows and Python must not free.
    """

    line: str
    status: int
    log: BinaryIO
    terminal: int
    stderr: TextIO
    on_abort: Callable[[int], None]

    def said(self) -> bytes:
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0)


_joined: _Joined | None = None


def join(coordinator: str, num_processes: int, process_id: int, wait: int = JOIN_SECONDS) -> None:
    """Joins the other processes of a run; call it before any array is made.

    Args:
      coordinator: host:port of process 0.
      num_processes: how many there are.
      process_id: which one this is.
      wait: seconds within which all must have come.

    Raises:
      UserError: they did not meet. An older runtime ends the process, with the same line.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    line = (
        f"--coordinator: the {num_processes} processes of the run did not meet at {coordinator}"
        f" within {wait} s; start all of them, with the address of process 0 and a free port there"
    )
    _divert(line)
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
        f"process {process_id} of {num_processes}: another process of the run was lost; start all"
        " of them again to resume"
    )


def lost(error: Exception) -> str | None:
    """Returns a line for an error that the loss of another process explains, else None."""
    if _joined is None or not _BROKEN.search(str(error)):
        return None
    line, _joined.line = _joined.line, ""  # said once, should the runtime abort as well
    return f"{line} ({str(error).splitlines()[0][:200]})"


def leave() -> None:
    """Parts from the other processes, which do the same now; what follows concerns this one alone.

    What C libraries have printed meanwhile is printed now.
    """
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
    os.write(2, joined.said())
    joined.log.close()


def abandon(status: int) -> None:
    """Ends a process that is still joined, which would else wait for the others at its exit."""
    if _joined is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _divert(line: str) -> None:
    global _joined
    sys.stderr.flush()
    log, on_abort = tempfile.TemporaryFile(), ctypes.CFUNCTYPE(None, ctypes.c_int)(_on_abort)  # noqa: SIM115
    _joined = _Joined(line, 2, log, os.dup(2), sys.stderr, on_abort)
    os.dup2(log.fileno(), 2)
    sys.stderr = open(  # noqa: SIM115
        os.dup(_joined.terminal), "w", buffering=1, encoding=sys.stderr.encoding, errors="replace"
    )
    sys.excepthook = _end_with_traceback
    ctypes.CDLL(None).signal(signal.SIGABRT, on_abort)


def _on_abort(number: int) -> None:
    said = _joined.said()
    if _ABORT in said:
        os.write(_joined.terminal, f"{_joined.line}\n".lstrip("\n").encode())
        os._exit(_joined.status)
    os.write(_joined.terminal, said)  # something else; on return the process aborts


def _end_with_traceback(*error: Any) -> None:
    sys.__excepthook__(*error)
    abandon(STATUS)
