"""JAX's persistent compilation cache in the data folder: a program is compiled once per machine.

Programs for CPUs depend on the processor's instructions and on the number of threads, so each
combination has a folder, whatever JAX's own key covers. Loading a program executes it: a folder
that another user owns or may write is not used.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import stat
import sys
import tempfile
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxlabs.config import UserError
from jaxlabs.data import sources

FOLDER = "compiled"
"""Folder in the data folder, followed by the number of the user."""

MAX_BYTES = 2 * 2**30
"""Size of a folder, above which the oldest programs are deleted at the start of a command."""

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
"""The folder of JAX's cache, and the compile time from which on a program is kept: here any."""

CPU_INFO = pathlib.Path("/proc/cpuinfo")

IDENTITY = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
"""Beginnings of the lines of `CPU_INFO` that identify the instructions."""

INTEL = "GenuineIntel"
"""Processors whose programs XLA may refuse to load (github.com/jax-ml/jax/issues/38445)."""


def enable(data_dir: str | os.PathLike[str] | None) -> None:
    """Uses the cache in the data folder, where it is known to work.

    There is none for several processes, which need not load the same programs, on Intel's CPUs, and
    in a folder that cannot be written. A cache that JAX has already (`JAX_COMPILATION_CACHE_DIR`)
    is kept.
    """
    lines = _identity()
    refused = jax.default_backend() == "cpu" and any(INTEL in line for line in lines)
    if jax.config.jax_compilation_cache_dir is not None or jax.process_count() > 1 or refused:
        return
    user = "" if sys.platform == "win32" else f"-{os.getuid()}"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    try:
        private = sources.data_home(data_dir) / f"{FOLDER}{user}"
        folder = private / f"{platform.machine()}-{digest}-{_threads()}-threads"
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        if _is_own(private) and os.access(folder, os.W_OK):
            _set(os.fspath(folder), 0.0)
    except (OSError, UserError):
        return
    _delete_oldest(folder)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restores the cache that JAX has had before."""
    before = [getattr(jax.config, name) for name in SETTINGS]
    try:
        yield
    finally:
        if before != [getattr(jax.config, name) for name in SETTINGS]:
            _set(*before)


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Lets the runs of one process share their programs, also where `enable` sets no cache."""
    if jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    with restored(), tempfile.TemporaryDirectory() as folder:
        _set(folder, 0.0)
        yield


def _identity() -> list[str]:
    """Returns lines that identify the processor's instructions."""
    if not CPU_INFO.exists():
        return [platform.processor(), platform.version()]  # the version of macOS names the chip
    first_core = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0]
    return [line for line in first_core.splitlines() if line.startswith(IDENTITY)]


def _threads() -> str:
    """Returns the number of threads that XLA compiles for."""
    if number := os.environ.get("PJRT_NPROC") or os.environ.get("NPROC"):
        return number
    if hasattr(os, "sched_getaffinity"):
        return str(len(os.sched_getaffinity(0)))
    return str(os.cpu_count())


def _is_own(folder: pathlib.Path) -> bool:
    """Returns whether nobody but this user can write into a folder."""
    if sys.platform == "win32":
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _set(folder: str | None, min_seconds: float) -> None:
    for name, value in zip(SETTINGS, (folder, min_seconds), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX opens the folder only once


def _delete_oldest(folder: pathlib.Path) -> None:
    """Deletes the programs that were compiled first until `MAX_BYTES` remain."""
    files = []
    for file in folder.glob("*-cache"):
        with contextlib.suppress(OSError):  # another process may have deleted it
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    excess = sum(size for _, size, _ in files) - MAX_BYTES
    for _, size, file in sorted(files):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            file.unlink()
        excess -= size
