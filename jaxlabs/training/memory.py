"""What the C library does with the memory of XLA's temporaries."""

import ctypes
import platform

# Parameters of mallopt(3), numbered as in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

MOST = 2**31 - 1
"""Free bytes at the heap's end that are kept; mallopt takes no larger number."""


def keep_freed() -> bool:
    """Makes glibc keep freed memory for the next call; returns whether there is a glibc.

    XLA asks for its temporaries anew at every call of a program. By default glibc fetches so large
    a block from the kernel, page by page at the first touch, and gives it back afterwards. All
    three settings are needed: large blocks lie in the heap, of which there is one, as those of
    further threads cannot hold them, and its end is not given back.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: MOST}
    return all(mallopt(parameter, value) for parameter, value in settings.items())
