"""What the C library does with the memory of XLA's temporaries."""

import ctypes
import platform

# Parameters of mallopt(3), numbered as in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4

MAX_INT = 2**31 - 1
"""Free bytes at a heap's end that are kept; mallopt takes no larger number."""


def configure_malloc() -> bool:
    """Makes glibc keep freed memory for the next call; returns whether there is a glibc.

    XLA asks for its temporaries anew at every call of a program. By default glibc fetches a large
    block from the kernel, page by page at the first touch, and gives it back afterwards. Now it
    lies in the thread's first heap, whose end is not given back; 64 MB in all is the most that such
    a heap holds. One heap for all threads would hold larger ones too, but they would wait for each
    other at every dot, which costs more.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: MAX_INT}
    return all(mallopt(parameter, value) for parameter, value in settings.items())
