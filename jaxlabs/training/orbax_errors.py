"""Errors and logs of Orbax: one line for a full disk, and silence about damage."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jaxlabs.run_folder import unwritable


@contextlib.contextmanager
def as_user_error(path: pathlib.Path) -> Iterator[None]:
    """Replaces a disk error, which Orbax raises as various types, by a UserError."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        number = int(code[1])
        raise unwritable(path, OSError(number, os.strerror(number))) from None


def forget_abandoned_reads() -> None:
    """Silences the abandoned reads of a damaged checkpoint, while the hook stays in place.

    Orbax reads all arrays concurrently and stops at the first error. TensorStore's threads finish
    the other reads after the event loop is closed, and Python would print a traceback for each.
    """
    if not isinstance(sys.unraisablehook, _WithoutAbandonedReads):
        sys.unraisablehook = _WithoutAbandonedReads(sys.unraisablehook)


@dataclasses.dataclass(frozen=True)
class _WithoutAbandonedReads:
    before: Callable[[Any], None]

    def __call__(self, lost: Any) -> None:
        if str(lost.exc_value) != "Event loop is closed":
            self.before(lost)


def silence_logs() -> None:
    """Silences Orbax, which logs pages about errors that it raises anyway."""
    logging.getLogger("absl").addFilter(_is_not_from_orbax)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.CRITICAL or "orbax" not in pathlib.Path(record.pathname).parts
