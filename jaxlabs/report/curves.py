"""Learning-rate schedule, gradient norm and the learning-rate range test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, report_figure

Rows = Sequence[Mapping[str, Any]]

SCORES = ("accuracy", "f1", "exact_match", "bleu")
"""Metrics of baselines that are no loss."""


def series(rows: Rows, split: str, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the finite values of one split by step: steps `[count]`, values `[count]`."""
    found = [(row["step"], row[value]) for row in rows if row["split"] == split and value in row]
    steps, values = np.array(sorted(found, key=lambda pair: pair[0]), float).reshape(-1, 2).T
    return steps[np.isfinite(values)], values[np.isfinite(values)]


def loss_baselines(baselines: Mapping[str, float]) -> dict[str, float]:
    """Returns the baselines that are losses: those whose names contain none of SCORES."""
    return {
        name: value
        for name, value in baselines.items()
        if not any(score in name for score in SCORES)
    }


def smoothed(values: np.ndarray) -> np.ndarray:
    """Returns a centered moving average `[count]` over a thirtieth of the run.

    The window shrinks symmetrically at both ends, so the steep start is not shifted.
    """
    index = np.arange(values.size)
    half = np.minimum(max(values.size // 60, 1), np.minimum(index, index[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)


@report_figure("Learning rate and gradient norm")
def optimization(figure: Figure, rows: Rows) -> tuple[str, str] | None:
    """Plots learning rate and gradient norm against the step; None if neither is logged."""
    panels = {name: series(rows, "train", name) for name in ("learning_rate", "gradient_norm")}
    panels = {humanize(name): curve for name, curve in panels.items() if curve[0].size}
    if not panels:
        return None
    figure.set_figheight(1.7 * len(panels) + 0.3)
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
            axes.yaxis.set_minor_formatter(_plain_at_2_and_5)
    grid[-1, 0].set(xlabel="step")
    return (
        "Learning-rate schedule, and global gradient norm before clipping (thin: every logged "
        "step; thick: moving average). Spikes of the norm mark outlier batches.",
        f"Against training steps: {' and '.join(panels)}.",
    )


@report_figure("Learning-rate range test", 3.2, name="lr_range")
def learning_rate_range(figure: Figure, arrays: Arrays) -> tuple[str, str] | None:
    """Plots a learning-rate range test: `learning_rate [steps]`, increasing, and `loss [steps]`.

    For Muon `muon_learning_rate [steps]`.
    None for fewer than three finite losses. Source: Smith (2017), "Cyclical learning rates for
    training neural networks", section 3.3.
    """
    finite = np.isfinite(arrays["loss"])
    name = next(name for name in arrays if name.endswith("learning_rate"))
    rates, values = arrays[name][finite], arrays["loss"][finite]
    if rates.size < 3:
        return None
    smooth = smoothed(values)
    lowest = int(np.argmin(smooth))
    steepest = int(np.argmin(np.gradient(smooth, np.log(rates))[: lowest + 1]))
    axes = figure.subplots()
    axes.plot(rates, values, color=style.BLUE, alpha=0.35, linewidth=0.7)
    axes.plot(rates, smooth, color=style.BLUE)
    for index, marker, point in ((steepest, "o", "steepest slope"), (lowest, "D", "lowest loss")):
        label = f"{point}, {rates[index]:.2g}"
        axes.plot(rates[index], smooth[index], marker, color=style.VERMILION, label=label)
    axes.set(xscale="log", xlabel=humanize(name), ylabel="loss")
    axes.xaxis.set_major_formatter("{x:g}")
    top, bottom = smooth[: lowest + 1].max(), smooth[lowest]
    margin = 0.1 * (top - bottom) or 1.0  # equal losses
    axes.set_ylim(bottom - margin, top + margin)
    figure.legend(loc="outside upper left", ncols=2, handlelength=1.0)
    return (
        f"The {humanize(name)} increases at every step of training. A good peak learning rate "
        f"lies between the steepest slope ({rates[steepest]:.2g}) and the lowest loss "
        f"({rates[lowest]:.2g}); beyond it training diverges.",
        "Loss against an increasing learning rate on a logarithmic axis.",
    )


def humanize(name: str) -> str:
    """Returns the name of a split or metric in readable form."""
    known = {
        "train": "training",
        "train_windows": "training windows, no dropout",
        "train_and_val": "training and held-out windows",
    }
    return known.get(name, name.replace("_", " "))


def _plain_at_2_and_5(value, _=None):
    """Labels the ticks 2 and 5 of each decade, which leaves room between the labels."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""
