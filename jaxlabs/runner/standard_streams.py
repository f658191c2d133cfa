"""Standard input, output and error: open, and able to print any text."""

import os
import sys


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
