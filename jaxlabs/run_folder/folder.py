"""Reading and writing a run folder, as one writer."""

import contextlib
import errno
import io
import json
import logging
import math
import os
import pathlib
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import numpy as np

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.run_folder.files import STEP_SAMPLE, Texts
from jaxlabs.run_folder.reader import RunReader

LOCK = ".lock"

REPLACE_ATTEMPTS = 20

FILES = ("config.json", "metrics.jsonl", "summary.json", "report.html", "parameters.safetensors")
SUITE_FILES = ("results.md", "results.json", "benchmark.json")
FOLDERS = ("checkpoints", "arrays", "figures", "samples", "tensorboard", "profile", "runs")
WRITTEN = FILES + SUITE_FILES + FOLDERS
"""Everything that a run may write into its folder."""

Sample = str | Texts | Mapping[str, np.ndarray]
"""A sample from a model: text, several texts, or arrays by name."""


class RunFolder(RunReader):
    """Reads and writes one run folder. The constructor does not access the disk."""

    def create(self) -> None:
        """Creates the folder and its subfolders.

        Raises:
          UserError: the folder cannot be made or written.
        """
        try:
            for folder in (self.checkpoints, self.path / "arrays", self.figures, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise unwritable(self.path, error) from None
        for folder in (self.path / "arrays", self.figures, self.samples):
            self.require_inside(folder)

    def exists(self) -> bool:
        """Returns whether the folder holds a run: a valid config.json."""
        try:
            self.read_config()
        except UserError:
            return False
        return True

    def contents(self) -> list[str]:
        """Returns the names of files and non-empty folders; hidden files do not count."""
        if not self.path.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if not entry.name.startswith(".") and not (entry.is_dir() and not any(entry.iterdir()))
        )

    def require_own(self) -> None:
        """Raises UserError if a run would overwrite files that belong to no run.

        Without a valid config.json, existing files belong to someone else or to a damaged run.
        """
        existing = [name for name in self.contents() if name in WRITTEN]
        if "config.json" in existing:
            self.read_config()
        elif existing:
            raise ArgumentError(
                "workdir",
                f"{self.path} holds {', '.join(existing)}, which a run would overwrite,"
                " but no config.json of a run; restore that file, or choose another `workdir`",
            )

    def has_results(self) -> bool:
        """Returns whether the folder holds more than the settings and the first evaluation.

        A learning-rate range test is no result: a run with another learning rate may follow.
        """
        folders = (self.checkpoints, self.path / "arrays", self.runs)
        found = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return (
            any(name != "lr_range.npz" for name in found)
            or any((self.path / name).exists() for name in ("summary.json", "benchmark.json"))
            or any(row["step"] > 0 for row in self.read_metrics())
        )

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Locks the folder for one writer; the lock ends with the process, even if it is killed.

        Raises:
          UserError: another process is writing here.
        """
        path = self.path / LOCK
        lock = filelock.FileLock(path, blocking=False)
        try:
            _require_regular(path)
            lock.acquire()
        except filelock.Timeout:
            raise ArgumentError(
                "workdir",
                f"{self.path} is being written by another run; "
                "wait for it or choose another folder",
            ) from None
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Deletes everything that a run writes, and nothing else, and recreates the subfolders.

        config.json is deleted last, so that the folder is still a run folder after an interruption.
        """
        try:
            for name in sorted(WRITTEN, key="config.json".__eq__):
                entry = self.path / name
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.create()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.json."""
        self._write_json("config.json", config)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json; a non-finite metric becomes null."""
        self._write_json("summary.json", summary)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes results.json; a non-finite metric becomes null."""
        self._write_json("results.json", results)

    def append_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl; a non-finite metric becomes null."""
        text = "".join(json.dumps(_without_nonfinite(row)) + "\n" for row in rows)
        try:
            with open(self.metrics, "ab", opener=_open_for_append) as file:
                file.write(text.encode())
        except OSError as error:
            raise unwritable(self.metrics, error) from None

    def drop_after(self, step: int) -> None:
        """Removes rows and samples past `step`, so that a resumed run has those of an unbroken run.

        At step 0 everything is removed: a run from the start evaluates its initial state again.
        """
        rows, unreadable = self.read_rows()
        if unreadable:
            logging.getLogger("jaxlabs").warning(
                "%s: removed %d unreadable lines", self.metrics, unreadable
            )
        kept = [row for row in rows if step > 0 and row["step"] <= step]
        self.write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        self.require_inside(self.samples)
        for path in self.samples.glob("step-*"):
            match = STEP_SAMPLE.fullmatch(path.name)
            if match and (step == 0 or int(match[1]) > step):
                path.unlink()

    def write_sample(self, name: str, sample: Sample) -> pathlib.Path:
        """Writes one sample: text as samples/<name>.txt, arrays as samples/<name>.npz.

        Several texts are written as a .txt for reading and as a .json.
        """
        if isinstance(sample, Texts):
            groups = json.dumps(sample.groups, ensure_ascii=False, indent=2) + "\n"
            self.write_text(self.samples / f"{name}.json", groups)
        if isinstance(sample, Mapping):
            path = self.samples / f"{name}.npz"
            self.write_bytes(path, _npz(sample))
        else:
            path = self.samples / f"{name}.txt"
            self.write_text(path, str(sample))
        return path

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Writes arrays/<name>.npz."""
        self.write_bytes(self.path / "arrays" / f"{name}.npz", _npz(arrays))

    def write_text(self, path: pathlib.Path, text: str) -> None:
        """Replaces one file of the folder atomically."""
        self.write_bytes(path, text.encode(errors="backslashreplace"))

    def write_bytes(self, path: pathlib.Path, content: bytes) -> None:
        """Replaces one file of the folder atomically."""
        self.require_inside(path.parent)
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            partial.unlink(missing_ok=True)  # it could be a link
            partial.write_bytes(content)
            _replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):  # this also fails on a read-only disk
                partial.unlink()
            raise unwritable(path, error) from None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self.write_text(self.path / name, json.dumps(_without_nonfinite(content), indent=2) + "\n")


def _require_regular(path: str | os.PathLike) -> None:
    """Raises OSError if a file is a link or a FIFO: Windows has no flags of `open` against them."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if stat.S_ISFIFO(mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)


def _open_for_append(path: str, flags: int) -> int:
    """Opens a file for appending; it follows no link and does not block on a FIFO."""
    _require_regular(path)
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):  # also if it was replaced just now
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def _replace(source: pathlib.Path, target: pathlib.Path) -> None:
    """Replaces a file; on Windows again if another program has it open, such as an indexer."""
    for _ in range(REPLACE_ATTEMPTS - 1):
        try:
            return os.replace(source, target)
        except PermissionError as error:
            if not getattr(error, "winerror", None):
                raise
            time.sleep(0.05)
    return os.replace(source, target)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _without_nonfinite(value: Any) -> Any:
    """Returns JSON content with null for non-finite numbers."""
    if isinstance(value, Mapping):
        return {name: _without_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unwritable(path: pathlib.Path, error: OSError) -> UserError:
    """Returns the UserError for an operating-system error."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
    return ArgumentError(
        "workdir", f"cannot write {path} ({reason}); a writable folder with space is needed"
    )
