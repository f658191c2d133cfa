"""What a page leaves out, since the file that it would be made from is damaged."""

import contextlib
import logging
from collections.abc import Iterator


class DamagedFiles:
    """Collects reasons by file, for the page; each is also said on the terminal."""

    def __init__(self):
        self.reasons: dict[str, str] = {}

    def add(self, file: str, reason: str) -> None:
        """Notes a file, relative to the run folder, of which something is left out."""
        if file not in self.reasons:
            self.reasons[file] = reason
            logging.getLogger("jaxlabs").warning("left out of the report: %s: %s", file, reason)

    @contextlib.contextmanager
    def skip_if_damaged(self, file: str) -> Iterator[None]:
        """Notes a file if what is made from it fails, instead of raising."""
        try:
            yield
        except Exception as error:  # what damage leads to is of many kinds
            reason = " ".join(str(error).split())[:200]
            self.add(file, reason if reason else type(error).__name__)
