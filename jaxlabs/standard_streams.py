"""Standard input, output and error, such that whatever a command prints goes through."""

import os
import sys


def make_usable() -> None:
    """Opens what the shell has closed, and lets what an encoding lacks be printed as `?`.

    A closed stream is None to Python, and the next file that is opened gets its number: what C
    libraries print would go into that file. Call it first of all.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # numbers 0, 1 and 2
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
