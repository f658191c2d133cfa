"""Metrics of a run: metrics.jsonl, optionally TensorBoard, and progress on the terminal."""

import sys
from typing import Any

import tqdm

from jaxlabs.run_folder import RunFolder


class MetricsWriter:
    """Appends rows of metrics to the run folder; only the main process writes."""

    def __init__(self, folder: RunFolder, step: int, *, enabled: bool, tensorboard: bool):
        self._folder = folder
        self._enabled = enabled
        self._events = None
        if enabled and tensorboard:
            from tensorboardX import SummaryWriter  # slow to import, and rarely used

            self._events = SummaryWriter(
                str(folder.path / "tensorboard"), purge_step=step + 1 if step else None
            )

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows, each with `step`, `split` and metrics by name."""
        if not self._enabled:
            return
        self._folder.append_metrics(rows)
        if self._events is not None:
            for row in rows:
                for name, value in row.items():
                    if name not in ("step", "split"):
                        self._events.add_scalar(f"{row['split']}/{name}", value, row["step"])
            self._events.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._events is not None:
            self._events.close()


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

    def evaluated(self, step: int, losses: dict[str, float], speed: float) -> None:
        """Prints the losses of an evaluation, with the speed and the remaining time."""
        words = ", ".join(f"{name} loss {value:.4f}" for name, value in losses.items())
        left = (
            f", {(self._steps - step) / speed:.0f} s left" if speed and step < self._steps else ""
        )
        speed_text = f" ({speed:.2f} steps/s{left})" if speed else ""
        self.print_line(f"step {step}/{self._steps}: {words}{speed_text}")

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()
