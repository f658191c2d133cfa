"""Reading a run folder; any file may be damaged, missing, or a link out of the folder."""

import io
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.run_folder import files, renamed
from jaxlabs.run_folder.files import STEP_SAMPLE

REWRITE = "remove it and summary.json, and the command that trained the run writes both again"
"""Remedy for a damaged file that is written at the end of a run."""


class RunReader:
    """Reads one run folder; see `run_folder`."""

    def __init__(self, path: str | os.PathLike):
        self.path = paths.local(path, "workdir")
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.samples = self.path / "samples"
        self.runs = self.path / "runs"
        self.report = self.path / "report.html"

    def arrays(self, name: str) -> pathlib.Path:
        """Returns the path of arrays/<name>.npz; in an old run that of its earlier name."""
        path = self.path / "arrays" / f"{name}.npz"
        earlier = [path.with_stem(old) for old in renamed.earlier_array_files(name)]
        return next((old for old in earlier if not path.exists() and old.exists()), path)

    def is_complete(self) -> bool:
        """Returns whether the run is complete: it has a readable summary.json."""
        try:
            self.read_summary()
        except UserError:
            return False
        return True

    def read_config(self) -> dict[str, Any]:
        """Reads config.json; raises UserError if it is missing or damaged."""
        hint = "restore it from a copy, or use another `workdir`"
        return self.read_json("config.json", files.check_config, hint, renamed.config)

    def read_summary(self) -> dict[str, Any]:
        """Reads summary.json; raises UserError if the run is incomplete, or the file is damaged."""
        hint = "the command that trained the run writes it again"
        return self.read_json("summary.json", files.check_summary, hint, renamed.summary)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads the rows of metrics.jsonl; invalid lines are skipped."""
        return self.read_rows()[0]

    def read_rows(self) -> tuple[list[dict[str, Any]], int]:
        """Returns the rows of metrics.jsonl, and the number of invalid lines.

        Invalid lines result from a power failure. An incomplete last line does not count.
        """
        self.require_inside(self.metrics)
        if not os.path.exists(self.metrics):
            return [], 0
        return files.parse_rows(paths.read_bytes(self.metrics, "remove it"))

    def step_samples(self, kind: str) -> dict[int, pathlib.Path]:
        """Returns the paths of the samples of training by step, in order.

        Args:
          kind: "txt" or "npz".
        """
        found = [STEP_SAMPLE.fullmatch(path.name) for path in self.samples.glob(f"step-*.{kind}")]
        steps = {int(match[1]): self.samples / match[0] for match in found if match}
        return dict(sorted(steps.items()))

    def read_text(self, path: pathlib.Path) -> str:
        """Reads a text file with its line ends; raises UserError if it is unreadable."""
        try:
            return self.read_bytes(path).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); {REWRITE}") from None

    def read_arrays(self, path: pathlib.Path) -> dict[str, np.ndarray]:
        """Reads all arrays of an .npz file of the folder.

        Raises:
          UserError: it is missing or damaged, or contains pickled objects.
        """
        content = self.read_bytes(path)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                content = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # numpy and zipfile raise many types
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{path}: not a readable .npz ({reason}); {REWRITE}") from None
        return renamed.arrays(path.stem, content)

    def read_json(
        self,
        name: str,
        check: Callable[[Any], None],
        hint: str,
        rename: Callable[[Any], Any] = lambda content: content,
    ) -> Any:
        """Reads a JSON file of the folder.

        Args:
          name: name of the file.
          check: raises ValueError for invalid content.
          hint: remedy for a damaged file.
          rename: replaces the names of earlier versions, see `renamed`.

        Raises:
          UserError: it is missing or damaged.
        """
        path = self.path / name
        self.require_inside(path)
        if not os.path.exists(path):
            raise ArgumentError(
                "workdir", f"{self.path} holds no {name}; the folder of a trained run is needed"
            )
        content = paths.read_bytes(path, hint)
        try:
            content = rename(files.parse(content))
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON ({error}); {hint}") from None
        try:
            check(content)
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); {hint}") from None
        return content

    def read_bytes(self, path: pathlib.Path) -> bytes:
        """Reads one file of the folder.

        Raises:
          UserError: it is missing, unreadable, not a regular file, or outside of the folder.
        """
        self.require_inside(path)
        return paths.read_bytes(path, REWRITE)

    def require_inside(self, path: pathlib.Path) -> None:
        """Raises UserError if `path` resolves to a target outside of the folder."""
        target = pathlib.Path(os.path.realpath(path))
        if not target.is_relative_to(os.path.realpath(self.path)):
            raise ArgumentError(
                "workdir",
                f"{path} is a link out of the run folder, to {target}; replace it with its target",
            )
