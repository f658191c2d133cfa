"""One command per lab."""

import sys

from jaxlabs import standard_streams
from jaxlabs.training import signals

# `python -m experiments.<lab>` comes here first, and then imports for seconds before the lab's own
# first line. Only then is argv[0] "-m": whoever imports a lab from elsewhere keeps his handlers.
if sys.argv[:1] == ["-m"]:
    standard_streams.make_usable()
    signals.guard()
