"""One command per lab."""

import sys

from jaxlabs.runner import standard_streams
from jaxlabs.training import signals

# `python -m experiments.<lab>` runs this file first, seconds before the first line of the lab. Only
# then is argv[0] "-m": importing a lab from elsewhere leaves the signal handlers alone.
if sys.argv[:1] == ["-m"]:
    standard_streams.make_usable()
    signals.guard()
