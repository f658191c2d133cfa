"""The command line of every experiment: flags, help text, errors and exit status."""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence

from jaxlabs.config import UserError
from jaxlabs.runner import exit_status, standard_streams
from jaxlabs.runner.flags import error_line, parse
from jaxlabs.runner.help_text import help_text
from jaxlabs.runner.lab import Experiment, Invocation, Study, Suite
from jaxlabs.training import capacity, hosts, jax_settings, malloc, signals


def main(lab: Experiment, arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits with its status, see `exit_status`.

    Args:
      lab: the experiment.
      arguments: its flags; None: those of the process.
    """
    standard_streams.make_usable()
    signals.guard()
    malloc.configure_malloc()
    hosts.follow_launcher()
    status = run(lab, sys.argv[1:] if arguments is None else arguments)
    if status:
        hosts.abandon(status)
    sys.exit(status)


def run(lab: Experiment, arguments: Sequence[str]) -> int:
    """Runs one command line; an expected error becomes one line on stderr and an exit status."""
    with jax_settings.fixed():
        try:
            return exit_status.of(
                lab.name, lambda: _run(lab, arguments), lambda error: error_line(lab, error)
            )
        except Exception as error:
            if (lost := hosts.lost(error)) is None:
                raise
            print(f"{lab.name}: {lost}", file=sys.stderr)
            return hosts.STATUS


def _run(lab: Experiment, arguments: Sequence[str]) -> int:
    invocation = parse(lab, arguments)
    if invocation is None:
        print(help_text(lab))
        return 0
    with _memory_errors_as_user_errors(invocation):
        return _dispatch(invocation)


def _dispatch(invocation: Invocation) -> int:
    # Imported only now: these need Orbax, matplotlib and scipy, which take longer to import than
    # JAX, and `--help` and a refused flag need none of them.
    from jaxlabs.runner import modes, reproduce, sweeps

    if isinstance(invocation.lab, Suite):
        return reproduce.run(invocation)
    if invocation.sweep is not None:
        sweeps.run(invocation)
    elif isinstance(invocation.lab, Study):
        modes.measure(invocation)
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
        remedy = getattr(error, "remedy", "")
        advice = remedy or "smaller values"
        raise UserError(f"{_enlarged_flags(invocation)}: {line}; use {advice}") from None


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
