"""How a command ends: an expected error becomes one line on stderr and an exit status.

0      success
1      a lab or a check failed, or another process of the run was lost
2      invalid input, or an error of the operating system
130    Ctrl-C
141    standard output was closed
143    SIGTERM
"""

import os
import signal
import sys
from collections.abc import Callable

from jaxlabs.config import UserError
from jaxlabs.training import signals
from jaxlabs.training.signals import Interrupted

BROKEN_PIPE = 128 + 13
"""The exit status after EPIPE: the same as that of a process killed by SIGPIPE."""


def of(name: str, action: Callable[[], int], line_of: Callable[[UserError], str] = str) -> int:
    """Runs the action of a command and returns its exit status.

    Args:
      name: the beginning of the line of an error.
      action: the work; returns the exit status of a command without an expected error.
      line_of: `error -> line`.
    """
    with signals.listening():
        try:
            status = action()
            print(end="", flush=True)  # raises now if the output cannot be written
            return status
        except Interrupted as interruption:
            return _print_error(name, interruption, interruption.status)
        except KeyboardInterrupt:
            return _print_error(name, Interrupted(signal.SIGINT), 128 + signal.SIGINT)
        except UserError as error:
            return _print_error(name, line_of(error), 2)
        except BrokenPipeError:
            _discard_buffered_output()
            return BROKEN_PIPE
        except OSError as error:
            path = "" if error.filename is None else f"{error.filename}: "
            _discard_buffered_output()
            return _print_error(name, f"{path}{error.strerror or error}", 2)
        except Exception:
            if (number := signals.requested()) is not None:  # a library wrapped the interruption
                return _print_error(name, Interrupted(number), 128 + number)
            raise


def refuse(name: str, error: UserError) -> int:
    """Prints the line of an error of the user before a command starts; returns the exit status."""
    return _print_error(name, error, 2)


def _print_error(name: str, line: object, status: int) -> int:
    print(f"{name}: {line}", file=sys.stderr)
    return status


def _discard_buffered_output() -> None:
    """Discards output that cannot be written; Python would try to write it again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
