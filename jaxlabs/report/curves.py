"""Learning-rate schedule, gradient norm and the learning-rate range test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure

Rows = Sequence[Mapping[str, Any]]


def series(rows: Rows, split: str, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the finite values of one split by step: steps `[count]`, values `[count]`."""
    found = [(row["step"], row[value]) for row in rows if row["split"] == split and value in row]
    steps, values = np.array(sorted(found, key=lambda pair: pair[0]), float).reshape(-1, 2).T
    return steps[np.isfinite(values)], values[np.isfinite(values)]


def smoothed(values: np.ndarray) -> np.ndarray:
    """Returns a centered moving average `[count]` over a thirtieth of the run.

    The window shrinks symmetrically at both ends, so the steep start is not shifted.
    """
    index = np.arange(values.size)
    half = np.minimum(max(values.size // 60, 1), np.minimum(index, index[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)


def optimization(rows: Rows) -> ReportFigure | None:
    """Plots learning rate and gradient norm against the step; None if neither is logged."""
    panels = {
        "learning rate": series(rows, "train", "learning_rate"),
        "gradient norm": series(rows, "train", "gradient_norm"),
    }
    panels = {name: curve for name, curve in panels.items() if curve[0].size}
    if not panels:
        return None
    figure = style.new_figure(1.7 * len(panels) + 0.3)
    grid = figure.subplots(len(panels), squeeze=False, sharex=True)
    for axes, (name, (steps, values)) in zip(grid[:, 0], panels.items(), strict=True):
        axes.set(title=name)
        axes.margins(x=0.01)
        if name == "learning rate":
            axes.plot(steps, values, color=style.BLUE)
            axes.set_ylim(bottom=0)
        else:
            axes.plot(steps, values, color=style.BLUE, alpha=0.35, linewidth=0.7)
            axes.plot(steps, smoothed(values), color=style.BLUE)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(FuncFormatter(_plain_at_2_and_5))
    grid[-1, 0].set(xlabel="step")
    return ReportFigure(
        name="optimization",
        title="Learning rate and gradient norm",
        caption=(
            "Learning-rate schedule, and global gradient norm before clipping (thin: every logged "
            "step; thick: moving average). Spikes of the norm mark outlier batches."
        ),
        alt=f"Against training steps: {' and '.join(panels)}.",
        figure=figure,
    )


def learning_rate_range(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Plots a learning-rate range test: `learning_rate [steps]`, increasing, and `loss [steps]`.

    Source: Smith (2017), "Cyclical learning rates for training neural networks", section 3.3.
    """
    rates, values = arrays["learning_rate"], arrays["loss"]
    finite = np.isfinite(values)
    rates, values = rates[finite], values[finite]
    if rates.size < 3:
        return []
    smooth = smoothed(values)
    lowest = int(np.argmin(smooth))
    slopes = np.gradient(smooth, np.log(rates))[: lowest + 1]
    steepest = int(np.argmin(slopes))
    figure = style.new_figure(3.2)
    axes = figure.subplots()
    axes.plot(rates, values, color=style.BLUE, alpha=0.35, linewidth=0.7)
    axes.plot(rates, smooth, color=style.BLUE)
    for index, marker, name in ((steepest, "o", "steepest slope"), (lowest, "D", "lowest loss")):
        label = f"{name}, {rates[index]:.2g}"
        axes.plot(rates[index], smooth[index], marker, color=style.VERMILION, label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(
        top=max(smooth[0], smooth[: lowest + 1].max()) * 1.08, bottom=smooth[lowest] * 0.93
    )
    figure.legend(loc="outside upper left", ncols=2, handlelength=1.0)
    return [
        ReportFigure(
            name="lr_range",
            title="Learning-rate range test",
            caption=(
                "The learning rate increases at every step of training. A good peak learning rate "
                f"lies between the steepest slope ({rates[steepest]:.2g}) and the lowest loss "
                f"({rates[lowest]:.2g}); beyond it training diverges."
            ),
            alt="Loss against an increasing learning rate on a logarithmic axis.",
            figure=figure,
        )
    ]


def humanize(name: str) -> str:
    """Returns the name of a split or metric in readable form."""
    return {"train": "training", "train_windows": "training windows, no dropout"}.get(
        name, name.replace("_", " ")
    )


def _plain_at_2_and_5(value: float, _: int | None = None) -> str:
    """Labels the ticks 2 and 5 of each decade, which leaves room between the labels."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "25" else ""
