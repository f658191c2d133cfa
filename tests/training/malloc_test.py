"""Tests of jaxlabs/training/malloc.py: page faults and heaps with and without the settings."""

import os
import platform
import subprocess
import sys

import pytest

from jaxlabs.training import malloc

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))
}
"""The environment without settings of the C library."""

FAULTS = """
import ctypes, resource, threading
from jaxlabs.training import malloc

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def touch(size=100 << 20):
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)

def touch_in_a_thread():
    thread = threading.Thread(target=touch, args=[40 << 20])
    thread.start()
    thread.join()

{setting}
for use in (touch, touch_in_a_thread):
    use()
    counts = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        use()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(min(counts))  # the kernel of a busy machine takes pages back
"""


def printed(code):
    """Returns the words that a new Python process prints."""
    command = [sys.executable, "-c", code]
    options = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    return subprocess.run(command, env=ENVIRONMENT, **options).stdout.split()


def faults(setting):
    """Returns the page faults of a second allocation of 100 MB, and of 40 MB in a thread."""
    return [int(count) for count in printed(FAULTS.format(setting=setting))]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_reused_without_page_faults():
    assert min(faults("")) > 30  # the measurement detects even large pages
    assert max(faults("assert malloc.configure_malloc()")) < 30


HEAPS = """
import ctypes, threading
from jaxlabs.training import malloc

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
assert malloc.configure_malloc()
blocks = []
def take():
    blocks.append(libc.malloc(1 << 20))

take()
thread = threading.Thread(target=take)
thread.start()
thread.join()
line = next(line for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
first, last = (int(side, 16) for side in line.split()[0].split("-"))
print(*(first <= block < last for block in blocks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_threads_have_separate_heaps():
    """A common heap has lock contention at every matmul."""
    assert printed(HEAPS) == ["True", "False"]


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: pytest.fail("asked for a C library"))
    assert not malloc.configure_malloc()
