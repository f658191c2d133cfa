"""malloc settings for XLA's temporary buffers."""

import ctypes
import platform

# Parameters of mallopt(3), numbered as in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4

MAX_INT = 2**31 - 1
"""The largest value that mallopt accepts."""


def configure_malloc() -> bool:
    """Makes glibc retain freed memory for reuse; returns whether the C library is glibc.

    XLA allocates its temporary buffers at every execution. By default glibc maps a large buffer
    with mmap, with a page fault per page, and unmaps it afterwards. With these settings buffers are
    allocated on the heap of the thread's arena, which is never trimmed. Such a heap has at most 64
    MB. A single arena for all threads would have larger heaps, but lock contention at every matmul
    costs more.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: MAX_INT}
    return all(mallopt(parameter, value) for parameter, value in settings.items())
