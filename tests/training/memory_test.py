import platform
import subprocess
import sys

import pytest

from jaxlabs.training import memory

FAULTS = """
import ctypes, resource, threading
from jaxlabs.training import memory

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
    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()

{setting}
for use in (touch, touch_in_a_thread):
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setting):
    """Pages that are fetched when 100 MB are asked for again, here and in another thread."""
    code = FAULTS.format(setting=setting)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_used_again_without_the_kernel():
    assert min(faults("")) > 30  # so the measure sees large pages, and small ones all the more
    assert max(faults("assert memory.keep_freed()")) < 30


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("asked for a C library"))
    assert not memory.keep_freed()
