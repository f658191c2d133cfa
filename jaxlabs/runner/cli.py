"""The command line of every experiment: flags, help text, errors and exit status."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from jaxlabs.config import UserError
from jaxlabs.runner import modes, reproduce, standard_streams, sweeps
from jaxlabs.runner.flags import error_line, parse
from jaxlabs.runner.help_text import help_text
from jaxlabs.runner.lab import Experiment, Invocation, Study, Suite
from jaxlabs.training import capacity, hosts, jax_settings, malloc, signals
from jaxlabs.training.signals import Interrupted

BROKEN_PIPE_STATUS = 128 + 13
"""The exit status after EPIPE: the same as that of a process killed by SIGPIPE."""


def main(lab: Experiment) -> None:
    """Runs a command line and exits with its status.

    0 success; 1 a lab failed, or another process of the run was lost; 2 invalid input or an
    operating-system error; 130 Ctrl-C; 143 SIGTERM; 141 standard output was closed.
    """
    standard_streams.make_usable()
    signals.guard()
    malloc.configure_malloc()
    status = run(lab, sys.argv[1:])
    if status:
        hosts.abandon(status)
    sys.exit(status)


def run(lab: Experiment, arguments: Sequence[str]) -> int:
    """Runs one command line; an expected error becomes one line on stderr and an exit status."""
    with jax_settings.fixed(), signals.listening():
        try:
            status = _run(lab, arguments)
            print(end="", flush=True)  # raises now if the output cannot be written
            return status
        except Interrupted as interruption:
            return _print_error(lab, interruption, interruption.status)
        except KeyboardInterrupt:
            return _print_error(lab, Interrupted(signal.SIGINT), 128 + signal.SIGINT)
        except UserError as error:
            return _print_error(lab, error_line(lab, error), 2)
        except BrokenPipeError:
            _discard_buffered_output()
            return BROKEN_PIPE_STATUS
        except OSError as error:
            path = "" if error.filename is None else f"{error.filename}: "
            _discard_buffered_output()
            return _print_error(lab, f"{path}{error.strerror or error}", 2)
        except Exception as error:
            if (number := signals.requested()) is not None:  # a library wrapped the interruption
                return _print_error(lab, Interrupted(number), 128 + number)
            if lost := hosts.lost(error):
                return _print_error(lab, lost, hosts.STATUS)
            raise


def _print_error(lab: Experiment, line: object, status: int) -> int:
    print(f"{lab.name}: {line}", file=sys.stderr)
    return status


def _discard_buffered_output() -> None:
    """Discards output that cannot be written; Python would try to write it again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(lab: Experiment, arguments: Sequence[str]) -> int:
    invocation = parse(lab, arguments)
    if invocation is None:
        print(help_text(lab))
        return 0
    with _memory_errors_as_user_errors(invocation):
        return _dispatch(invocation)


def _dispatch(invocation: Invocation) -> int:
    if isinstance(invocation.lab, Suite):
        return reproduce.run(invocation)
    if isinstance(invocation.lab, Study):
        modes.measure(invocation)
    elif invocation.sweep is not None:
        sweeps.run(invocation)
    else:
        modes.run(invocation)
    return 0


@contextlib.contextmanager
def _memory_errors_as_user_errors(invocation: Invocation) -> Iterator[None]:
    """Replaces an out-of-memory error by one line that begins with the flags to lower.

    Raises:
      UserError: something did not fit into memory.
    """
    try:
        yield
    except Exception as error:
        line = capacity.in_a_line(error)
        if line is None:
            raise
        raise UserError(f"{_enlarged_flags(invocation)}: {line}; use smaller values") from None


def _enlarged_flags(invocation: Invocation) -> str:
    """Returns the flags that exceed the preset's values by far, largest ratio first.

    Without any such flag it returns the preset.
    """
    preset = invocation.preset_config().flat()
    ratios = {
        name: value / (preset[name] or 1)
        for name, value in invocation.overrides.items()
        if isinstance(value, int | float) and not name.endswith("seed")
    }
    threshold = math.sqrt(max([1.0, *ratios.values()]))
    names = [name for name in ratios if ratios[name] > threshold]
    if not names:
        return f"--preset={invocation.preset}"
    names.sort(key=ratios.get, reverse=True)
    return ", ".join(f"--{name}={invocation.overrides[name]}" for name in names)
