"""The run folder: the one thing that training writes and that the report reads.

    config.json      all settings, versions, device, data set
    metrics.jsonl    one object per logged event: step, split, values
    summary.json     final figures
    checkpoints/     Orbax, one folder per step
    arrays/*.npz     what analysis measured (attention maps, position tables, ...)
    figures/*.png    samples/*        report.html    what was drawn and sampled (a sample of
                     several texts is a .txt to read, and a .json with each of them by itself)
    runs/            in the folder of a sweep or a collection, the folders of its runs
    results.md       in the folder of a collection, the table of them all; results.json: its rows

Every file is replaced atomically, so that a reader never meets half a file. Nothing is read or
written through a link that leads out of the folder; `checkpoints` and `runs` themselves may be
links to folders elsewhere, on a larger disk.
"""

import contextlib
import errno
import fcntl
import io
import json
import logging
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxlabs.config import UserError
from jaxlabs.run_files import STEP_SAMPLE, Texts
from jaxlabs.run_reader import RunReader

LOCK = ".lock"

WRITTEN = (
    *("config.json", "metrics.jsonl", "summary.json", "report.html", "parameters.safetensors"),
    *("results.md", "results.json"),
    *("checkpoints", "arrays", "figures", "samples", "tensorboard", "profile", "runs"),
    "benchmark.json",
)
"""Everything that a run leaves in its folder."""

Sample = str | Texts | Mapping[str, np.ndarray]
"""What a lab draws from its model: text, several texts, or arrays by name."""


class RunFolder(RunReader):
    """Reads and writes one run folder. Making the object touches nothing on disk."""

    def create(self) -> None:
        """Makes the folder and its rooms.

        Raises:
          UserError: the folder cannot be made or written.
        """
        try:
            for room in (self.checkpoints, self.path / "arrays", self.figures, self.samples):
                room.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise unwritable(self.path, error) from None
        for room in (self.path / "arrays", self.figures, self.samples):
            self.require_inside(room)

    def exists(self) -> bool:
        """Tells whether a run has been started here: a config.json that a run wrote."""
        try:
            self.read_config()
        except UserError:
            return False
        return True

    def contents(self) -> list[str]:
        """Returns the names in the folder that hold something; hidden files do not count."""
        if not self.path.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if not entry.name.startswith(".") and not (entry.is_dir() and not any(entry.iterdir()))
        )

    def require_own(self) -> None:
        """Raises UserError where a run would overwrite files that are of no run.

        A config.json that is missing or damaged is no sign of an empty folder: what is there is
        somebody's, or the rest of another run.
        """
        held = [name for name in self.contents() if name in WRITTEN]
        if "config.json" in held:
            self.read_config()
        elif held:
            raise UserError(
                f"--workdir: {self.path} holds {', '.join(held)}, which a run would overwrite, but"
                " no config.json of a run; restore that file, or choose another --workdir"
            )

    def has_results(self) -> bool:
        """Tells whether a run has left more here than its settings and its first evaluation."""
        rooms = (self.checkpoints, self.path / "arrays", self.runs)
        return (
            any(any(room.iterdir()) for room in rooms if room.is_dir())
            or any((self.path / name).exists() for name in ("summary.json", "benchmark.json"))
            or any(row["step"] > 0 for row in self.read_metrics())
        )

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Holds the folder for one writer; the lock goes with the process, even with a killed one.

        Raises:
          UserError: another process is writing here.
        """
        try:
            lock = open(self.path / LOCK, "a", encoding="utf-8", opener=_of_the_folder)  # noqa: SIM115
        except OSError as error:
            raise unwritable(self.path / LOCK, error) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"--workdir: {self.path} is being written by another run; "
                    "wait for it or choose another folder"
                ) from None
            yield

    def clear(self) -> None:
        """Throws away what a run writes, and nothing else, and makes its rooms anew.

        config.json goes last: until then the folder is a run's, whenever this is interrupted.
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
        """Writes summary.json; a figure that is not finite becomes null."""
        self._write_json("summary.json", summary)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes results.json; a value that is not finite becomes null."""
        self._write_json("results.json", results)

    def append_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl; a figure that is not finite becomes null."""
        text = "".join(json.dumps(_without_nonfinite(row)) + "\n" for row in rows)
        try:
            with open(self.metrics, "a", encoding="utf-8", opener=_of_the_folder) as file:
                file.write(text)
        except OSError as error:
            raise unwritable(self.metrics, error) from None

    def drop_after(self, step: int) -> None:
        """Drops rows and samples past `step`: a resumed run's files equal an unbroken one's.

        At step 0 everything goes: a run that starts anew evaluates its initial state again.
        """
        rows, unreadable = self.read_rows()
        if unreadable:
            logging.getLogger("jaxlabs").warning(
                "%s: %d unreadable lines are dropped", self.metrics, unreadable
            )
        kept = [row for row in rows if step > 0 and row["step"] <= step]
        self.write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        self.require_inside(self.samples)
        for path in self.samples.glob("step-*"):
            drawn_by_run = STEP_SAMPLE.fullmatch(path.name)
            if drawn_by_run and (step == 0 or int(drawn_by_run[1]) > step):
                path.unlink()

    def write_sample(self, name: str, sample: Sample) -> pathlib.Path:
        """Writes one sample: text as samples/<name>.txt, arrays as samples/<name>.npz.

        Several texts are a .txt to be read, and a .json with each by itself.
        """
        if isinstance(sample, Texts):
            groups = json.dumps(sample.groups, ensure_ascii=False, indent=2) + "\n"
            self.write_text(self.samples / f"{name}.json", groups)
        if isinstance(sample, Mapping):
            path, content = self.samples / f"{name}.npz", _npz(sample)
        else:
            path, content = self.samples / f"{name}.txt", str(sample).encode()
        self.write_bytes(path, content)
        return path

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Writes one named set of arrays, arrays/<name>.npz."""
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
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):  # a read-only disk refuses even this
                partial.unlink()
            raise unwritable(path, error) from None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self.write_text(self.path / name, json.dumps(_without_nonfinite(content), indent=2) + "\n")


def _of_the_folder(path: str, flags: int) -> int:
    """Opens a file to append to: not what a link leads to, and no FIFO, which would wait."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _without_nonfinite(value: Any) -> Any:
    """Returns JSON content in which null stands for what JSON has no word for."""
    if isinstance(value, Mapping):
        return {name: _without_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unwritable(path: pathlib.Path, error: OSError) -> UserError:
    """Turns an operating-system error into the one line that a user needs."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
    return UserError(
        f"--workdir: cannot write {path} ({reason}); a writable folder with space is needed"
    )
