"""Tests of jaxlabs/training/memory.py."""

import subprocess
import sys

import psutil
import pytest

from jaxlabs.training import memory

FREED = """
from jaxlabs.training import memory
before = memory.peak_memory()
block = b"x" * 2**28
del block
print(before, memory.peak_memory())
"""


@pytest.fixture
def without_proc(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(memory, "open", fail, raising=False)


def test_peak_memory_in_bytes_includes_what_was_freed():
    command = [sys.executable, "-c", FREED]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, after = map(int, printed.split())
    assert before < 2**28 < after - before + 2**25 < 2**28 + 2**26


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_peak_memory_without_proc_is_that_of_the_standard_library(without_proc):
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    assert memory.peak_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes")
def test_macos_counts_bytes(without_proc, monkeypatch):
    peak = memory.peak_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.peak_memory() == peak / 1024


def test_windows_has_a_peak_of_its_own(monkeypatch):
    class Process:
        def memory_info(self):
            return type("Info", (), {"peak_wset": 5})

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(psutil, "Process", Process)
    assert memory.peak_memory() == 5
