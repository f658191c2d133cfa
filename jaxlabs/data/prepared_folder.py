"""A folder of prepared data, such as token shards, that is kept for later runs.

It is `prepared/<name>-<key>` in the folder of the data sets. The key is the hash of the names,
sizes and modification times of the files that the data are made of, so that a later run reads none
of them. One process prepares it, the others wait.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import tqdm

from jaxlabs.config import ArgumentError
from jaxlabs.data import sources


def folder(
    root: Path, files: Sequence[Path], data_dir: str | Path | None, version: int, *settings: Any
) -> Path:
    """Returns the path of the folder; nothing is created.

    Args:
      root: the data as the user names them, a file or a folder.
      files: the files, `root` itself or below it.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.
      version: version of the prepared files; another one has another folder.
      settings: what else they depend on, as JSON.
    """
    home = root if root.is_dir() else root.parent
    stats = [(path.relative_to(home).as_posix(), path.stat()) for path in files]
    described = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    digest = hashlib.sha256(json.dumps([version, described, *settings]).encode()).hexdigest()
    return sources.data_home(data_dir) / "prepared" / f"{root.resolve().name}-{digest[:16]}"


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """Raises ArgumentError if the folder cannot be read or written in the block."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{path} cannot be used ({reason}); a folder with free space"
        raise ArgumentError("data_dir", message) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Creates the folder; the block waits for another process that prepares it."""
    path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path / ".lock")
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        print(f"{path}: waiting for another process, which prepares it", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield


def once(path: Path, make: Callable[[], Any]) -> Any:
    """Returns the content of a JSON file, which is made and written if there is none."""
    if not path.exists():
        write_json(path, make())
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(content).encode())


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that appears at `path` at the end, as a whole and on the disk."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # fails on a read-only disk
            part.unlink()
        raise


def byte_progress(doing: str, total: int | None) -> tqdm.tqdm:
    """Returns a progress bar of bytes, on a terminal only."""
    return tqdm.tqdm(total=total, desc=doing, unit="B", unit_scale=True, disable=None)
