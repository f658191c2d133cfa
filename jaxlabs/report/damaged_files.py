"""Damaged files of a run folder: the report skips them and lists the reasons."""

import contextlib
import logging
from collections.abc import Iterator


class DamagedFiles:
    """Collects the reason for each skipped file and logs a warning."""

    def __init__(self):
        self.reasons: dict[str, str] = {}

    def add(self, file: str, reason: str) -> None:
        """Records a file (path relative to the run folder) that is skipped in whole or in part."""
        if file not in self.reasons:
            self.reasons[file] = reason
            logging.getLogger("jaxlabs").warning("skipped in the report: %s: %s", file, reason)

    @contextlib.contextmanager
    def skip_if_damaged(self, file: str) -> Iterator[None]:
        """Records the file instead of raising if the code in the `with` block fails."""
        try:
            yield
        except Exception as error:  # damage may raise anything
            reason = " ".join(str(error).split())[:200]
            self.add(file, reason if reason else type(error).__name__)
