"""Metrics of a run: metrics.jsonl, its mirrors (TensorBoard, a tracker), and the terminal."""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from typing import Any

import tqdm

from jaxlabs.config import ArgumentError
from jaxlabs.run_folder import RunFolder


def require_tracker(name: str) -> None:
    """Raises ArgumentError if the package of a tracker is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        message = f"{name} is not installed; pip install 'jaxlabs[{name}]'"
        raise ArgumentError("track", message)


class MetricsWriter:
    """Appends rows of metrics to the run folder; only the main process writes.

    Args:
      folder: the run folder.
      step: the step that the run starts or resumes at.
      enabled: whether to write anything.
      tensorboard: whether to write TensorBoard event files.
      track: "none" or "trackio".
    """

    def __init__(
        self,
        folder: RunFolder,
        step: int,
        *,
        enabled: bool,
        tensorboard: bool,
        track: str = "none",
    ):
        self._folder = folder
        self._enabled = enabled
        self._mirrors = []
        if enabled and tensorboard:
            self._mirrors.append(_TensorBoard(folder, step))
        if enabled and track == "trackio":
            self._mirrors.append(_Trackio(folder))

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows, each with `step`, `split` and metrics by name."""
        if not self._enabled:
            return
        self._folder.append_metrics(rows)
        for mirror in self._mirrors:
            for row in rows:
                metrics = {
                    f"{row['split']}/{name}": value
                    for name, value in row.items()
                    if name not in ("step", "split")
                }
                mirror.write(row["step"], metrics)
            mirror.flush()

    def close(self) -> None:
        """Closes the mirrors."""
        for mirror in self._mirrors:
            mirror.close()


class _TensorBoard:
    """Event files in `tensorboard/`; those of a resumed run replace the steps past its start."""

    def __init__(self, folder: RunFolder, step: int):
        from tensorboardX import SummaryWriter  # slow to import, and rarely used

        path = str(folder.path / "tensorboard")
        self._events = SummaryWriter(path, purge_step=step + 1 if step else 0)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        self._events.flush()

    def close(self) -> None:
        self._events.close()


class _Trackio:
    """A run of trackio, which needs no account: in the project of the lab, named by its folder."""

    def __init__(self, folder: RunFolder):
        import trackio  # optional

        self._trackio = trackio
        config = folder.read_config()
        with _quiet():
            self._run = trackio.init(
                config["experiment"],
                name=folder.path.absolute().as_posix(),  # the same from any working directory
                config=config["settings"],
                resume="allow",
                embed=False,  # in a notebook
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def flush(self) -> None:
        """Does nothing: a thread of trackio writes."""

    def close(self) -> None:
        with _quiet():
            self._trackio.finish()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Returns a context without trackio's messages on standard output, which has the results."""
    return contextlib.redirect_stdout(io.StringIO())


class Progress:
    """A progress bar with loss, steps/s and remaining time on a terminal; else plain lines."""

    def __init__(self, steps: int, done: int, *, enabled: bool):
        self._steps = steps
        self._enabled = enabled
        self._bar = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def advance(self, steps: int, loss: float) -> None:
        """Advances the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update(steps)

    def print_line(self, line: str) -> None:
        """Prints one line above the bar."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def evaluated(
        self, step: int, metrics: Mapping[str, Mapping[str, float]], speed: float
    ) -> None:
        """Prints the losses of an evaluation, with the speed and the remaining time."""
        left = (
            f", {(self._steps - step) / speed:.0f} s left" if speed and step < self._steps else ""
        )
        speed_text = f" ({speed:.2f} steps/s{left})" if speed else ""
        self.print_line(f"step {step}/{self._steps}: {losses_of(metrics)}{speed_text}")

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def losses_of(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the losses of an evaluation in words, such as `held_out loss 1.5301 ± 0.0104`.

    Args:
      metrics: by split; the loss has a standard error where `loss_stderr` is there, and that of
        the first split also stands in bits per byte where `bits_per_byte` is there.
    """
    words = []
    for name, row in metrics.items():
        error = f" ± {row['loss_stderr']:.4f}" if "loss_stderr" in row else ""
        bits = f" ({row['bits_per_byte']:.4f} bits per byte)" if "bits_per_byte" in row else ""
        words.append(f"{name} loss {row['loss']:.4f}{error}{'' if words else bits}")
    return ", ".join(words)
