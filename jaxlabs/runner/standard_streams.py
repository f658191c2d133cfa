"""Standard input, output and error: open, and able to print any text."""

import os
import re
import sys

CONTROL = re.compile(r"(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that steer a terminal; a tab and an end of line are none."""


def make_usable() -> None:
    """Opens closed streams, and prints characters that the encoding lacks as `?`.

    A closed stream is None in Python, and the next opened file gets its file descriptor, to which C
    libraries would print. Call it first.
    """
    for name, mode in (
        ("stdin", "r"),
        ("stdout", "w"),
        ("stderr", "w"),
    ):  # file descriptors 0, 1 and 2
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")


def for_display(text: object) -> str:
    """Returns a text to print: on a terminal with control characters escaped, elsewhere unchanged.

    A model that knows bytes makes any of them, and a terminal would obey them.
    """
    if not sys.stdout.isatty():
        return str(text)
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))
