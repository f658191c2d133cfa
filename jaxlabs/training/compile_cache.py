"""JAX's persistent compilation cache in the data folder: a program is compiled once per machine.

JAX's key covers the program, its versions and flags, but not the processor's instructions and
number of cores, which compiled programs for CPUs depend on. So each kind of processor has a folder.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxlabs.config import UserError
from jaxlabs.data import sources

FOLDER = "compiled"
"""Folder in the data folder."""

MAX_BYTES = 2 * 2**30
"""Size of the cache of one processor, above which the oldest programs are deleted."""

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
"""The folder of JAX's cache, and the compile time from which on a program is kept: here any."""

CPU_INFO = pathlib.Path("/proc/cpuinfo")

IDENTITY = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
"""Beginnings of the lines of `CPU_INFO` that identify the instructions."""


def enable(data_dir: str | os.PathLike[str] | None) -> None:
    """Uses the cache, in the data folder.

    A cache that JAX has already (`JAX_COMPILATION_CACHE_DIR`) is kept; in a folder that cannot be
    written there is none.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        folder = sources.data_home(data_dir) / FOLDER / processor()
        folder.mkdir(parents=True, exist_ok=True)
        _delete_oldest(folder)
    except (OSError, UserError):
        return
    if os.access(folder, os.W_OK):
        _set(os.fspath(folder), 0.0)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restores the cache that JAX has had before."""
    before = [getattr(jax.config, name) for name in SETTINGS]
    try:
        yield
    finally:
        if before != [getattr(jax.config, name) for name in SETTINGS]:
            _set(*before)


def processor() -> str:
    """Returns a name for the kind of processor and the number of its cores that XLA uses."""
    lines = [platform.processor(), platform.version()]  # the version of macOS names the chip
    if CPU_INFO.exists():
        first_core = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        lines = [line for line in first_core if line.startswith(IDENTITY)]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{platform.machine()}-{_cores()}-{digest[:12]}"


def _cores() -> str:
    """Returns the number of threads that XLA compiles for."""
    if number := os.environ.get("PJRT_NPROC"):
        return number
    if hasattr(os, "sched_getaffinity"):
        return str(len(os.sched_getaffinity(0)))
    return str(os.cpu_count())


def _set(folder: str | None, min_seconds: float) -> None:
    for name, value in zip(SETTINGS, (folder, min_seconds), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX opens the folder only once


def _delete_oldest(folder: pathlib.Path) -> None:
    """Deletes the programs that were compiled first until `MAX_BYTES` remain."""
    files = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.iterdir())
    excess = sum(size for _, size, _ in files) - MAX_BYTES
    for _, size, file in files:
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size
