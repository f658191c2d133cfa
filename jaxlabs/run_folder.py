"""The run folder: the one thing that training writes and that the report reads.

    config.json      all settings, versions, device, data set
    metrics.jsonl    one object per logged event: step, split, values
    summary.json     final figures
    checkpoints/     Orbax, one folder per step
    arrays/*.npz     what analysis measured (attention maps, position tables, ...)
    figures/*.png    samples/*        report.html    what was drawn and sampled
    runs/            in the folder of a sweep or a collection, the folders of its runs
    results.md       in the folder of a collection, the table of them all

Every file is replaced atomically, so that a reader never meets half a file.
"""

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxlabs.config import UserError

LOCK = ".lock"

WRITTEN = (
    *("config.json", "metrics.jsonl", "summary.json", "report.html", "parameters.safetensors"),
    "results.md",
    *("checkpoints", "arrays", "figures", "samples", "tensorboard", "profile", "runs"),
    "benchmark.json",
)
"""Everything that a run leaves in its folder."""

STEP_SAMPLE = re.compile(r"step-([0-9]{6}|[1-9][0-9]{6,})\.(txt|npz)")
"""The names of samples drawn during training; other files in samples/ are not the run's."""

Sample = str | Mapping[str, np.ndarray]
"""What a lab draws from its model: text, or arrays by name."""


class RunFolder:
    """Reads and writes one run folder. Making the object touches nothing on disk."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser()
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.samples = self.path / "samples"
        self.runs = self.path / "runs"
        self.report = self.path / "report.html"

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

    def arrays(self, name: str) -> pathlib.Path:
        """Returns the path of one named set of arrays."""
        return self.path / "arrays" / f"{name}.npz"

    def exists(self) -> bool:
        """Tells whether a run has been started here: a config.json that a run wrote."""
        try:
            config = json.loads((self.path / "config.json").read_text())
        except (OSError, ValueError):
            return False
        return (
            isinstance(config, dict)
            and isinstance(config.get("experiment"), str)
            and isinstance(config.get("settings"), dict)
            and all(isinstance(config.get(part, {}), dict) for part in ("dataset", "tuned"))
        )

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
        if not held or self.exists():
            return
        if "config.json" in held:
            self.read_config()  # says what is wrong with it
        raise UserError(
            f"--workdir: {self.path} holds {', '.join(held)}, which a run would overwrite, but no"
            " config.json of a run; restore that file, or choose another --workdir"
        )

    def has_results(self) -> bool:
        """Tells whether a run has left more here than its settings and its first evaluation."""
        rooms = (self.checkpoints, self.path / "arrays", self.runs)
        return (
            any(any(room.iterdir()) for room in rooms if room.is_dir())
            or any((self.path / name).exists() for name in ("summary.json", "benchmark.json"))
            or any(row["step"] > 0 for row in self.read_metrics())
        )

    def is_complete(self) -> bool:
        """Tells whether the run here has ended."""
        return (self.path / "summary.json").exists()

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Holds the folder for one writer; the lock goes with the process, even with a killed one.

        Raises:
          UserError: another process is writing here.
        """
        try:
            lock = open(self.path / LOCK, "a")  # noqa: SIM115
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

    def read_config(self) -> dict[str, Any]:
        """Reads config.json; raises UserError when there is no run here."""
        return self._read_json("config.json")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json; a figure that is not finite becomes null."""
        self._write_json("summary.json", summary)

    def read_summary(self) -> dict[str, Any]:
        """Reads summary.json; raises UserError when the run has not ended yet."""
        return self._read_json("summary.json")

    def append_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl; a figure that is not finite becomes null."""
        text = "".join(json.dumps(_without_nonfinite(row)) + "\n" for row in rows)
        try:
            with open(self.metrics, "a") as file:
                file.write(text)
        except OSError as error:
            raise unwritable(self.metrics, error) from None

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads the rows of metrics.jsonl; a half-written last line of a killed run is left out."""
        if not self.metrics.exists():
            return []
        *whole, _ = self.metrics.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def drop_after(self, step: int) -> None:
        """Drops rows and samples past `step`: a resumed run's files equal an unbroken one's.

        At step 0 everything goes: a run that starts anew evaluates its initial state again.
        """
        kept = [row for row in self.read_metrics() if step > 0 and row["step"] <= step]
        self.write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        for path in self.samples.glob("step-*"):
            written = STEP_SAMPLE.fullmatch(path.name)
            if written and (step == 0 or int(written[1]) > step):
                path.unlink()

    def write_sample(self, name: str, sample: Sample) -> pathlib.Path:
        """Writes one sample, text as samples/<name>.txt and arrays as samples/<name>.npz."""
        if isinstance(sample, str):
            path, content = self.samples / f"{name}.txt", sample.encode()
        else:
            path, content = self.samples / f"{name}.npz", _npz(sample)
        self.write_bytes(path, content)
        return path

    def write_arrays(self, name: str, **arrays: Any) -> None:
        """Writes one named set of arrays, arrays/<name>.npz."""
        self.write_bytes(self.arrays(name), _npz(arrays))

    def write_text(self, path: pathlib.Path, text: str) -> None:
        """Replaces one file of the folder atomically."""
        self.write_bytes(path, text.encode())

    def write_bytes(self, path: pathlib.Path, content: bytes) -> None:
        """Replaces one file of the folder atomically."""
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):  # a read-only disk refuses even this
                partial.unlink()
            raise unwritable(path, error) from None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self.write_text(self.path / name, json.dumps(_without_nonfinite(content), indent=2) + "\n")

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"--workdir: {self.path} holds no {name}; a folder of a trained run is needed"
            ) from None
        except OSError as error:
            raise UserError(f"{self.path / name}: cannot be read ({error.strerror})") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{self.path / name}: not valid JSON ({error})") from None


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
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
    return UserError(
        f"--workdir: cannot write {path} ({reason}); a writable folder with space is needed"
    )
