"""The peak memory of this process, on every operating system.

This module imports no JAX, so that the benchmark can measure a process without it.
"""

import contextlib
import ctypes
import sys

import psutil


class _Usage(ctypes.Structure):
    """`struct rusage` of 64-bit macOS and Linux: two times, `ru_maxrss` and 13 counts."""

    _fields_ = (
        ("times", ctypes.c_long * 4),
        ("maxrss", ctypes.c_long),
        ("counts", ctypes.c_long * 13),
    )


def peak_memory() -> int:
    """Returns the peak resident memory of this process in bytes.

    On Linux `ru_maxrss` includes the memory before `exec`, so the child of a large parent looks
    large. /proc/self/status counts the program alone. Only macOS counts `ru_maxrss` in bytes.
    """
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    usage = _Usage()
    ctypes.CDLL(None).getrusage(0, ctypes.byref(usage))  # of RUSAGE_SELF
    return usage.maxrss * (1 if sys.platform == "darwin" else 1024)
