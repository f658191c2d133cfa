"""One command per lab."""

import sys

from jaxlabs.large_pages import restart_with_large_pages

if sys.argv[0] == "-m":  # so Python calls a package whose module it is about to run
    restart_with_large_pages()
