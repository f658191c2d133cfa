"""The command `jaxlabs`, also as `python -m jaxlabs`; see `jaxlabs.commands`."""

import sys
from typing import NoReturn

from jaxlabs.runner import standard_streams
from jaxlabs.training import signals


def main() -> NoReturn:
    """Runs the command line of this process and exits with its status."""
    standard_streams.make_usable()
    signals.guard()
    # Imported only now: numpy and JAX take a second, during which a signal would print a traceback.
    from jaxlabs import commands

    sys.exit(commands.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
