"""Loss curves of a run, with baselines and published losses."""

import itertools
from collections.abc import Mapping

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.curves import Rows, humanize, loss_baselines, series, smoothed
from jaxlabs.report.figure import Figure, report_figure

LOSS_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 10, 20)
LABEL_HEIGHT = 0.045
"""Height of the label of a horizontal line, as a fraction of the axis."""


@report_figure("Loss", 4.4, name="loss")
def loss_curves(
    figure: Figure, rows: Rows, baselines: Mapping[str, float], comparison: Rows, unit: str = "nats"
) -> tuple[str, str] | None:
    """Plots training loss, evaluated splits, baselines and published losses against the step.

    None if no row of metrics.jsonl has a loss. Baselines that are losses, and losses in `unit` of
    `published.compare`, become horizontal lines.
    """
    splits = ["train", *dict.fromkeys(row["split"] for row in rows if row["split"] != "train")]
    curves = {split: series(rows, split, "loss") for split in splits}
    curves = {split: curve for split, curve in curves.items() if curve[0].size}
    if not curves:
        return None
    axes = figure.subplots()
    colored = zip(curves.items(), itertools.cycle(style.COLORS))
    finals = {split: _plot_loss(axes, split, c, *curve) for (split, curve), c in colored}
    lines = _baseline_lines(baselines) + _published_lines(comparison, unit)
    plotted = [value for _, values in curves.values() for value in values]
    _scale_losses(axes, np.array(plotted + [value for _, value, _ in lines]))
    _plot_lines(axes, lines, curves_end=max(finals.values()))
    axes.set(xlabel="step", ylabel=f"loss [{unit}]")
    axes.margins(x=0.01)
    _time_axis(axes, rows)
    if unit.startswith("nats") and any("perplexity" in row for row in rows):
        _perplexity_axis(axes)
    figure.legend(loc="outside upper left", ncols=2, handlelength=1.4, columnspacing=1.6)
    last_values = "; ".join(f"{humanize(split)} {final:.3f}" for split, final in finals.items())
    return (
        "Training loss at every logged step (thin) and its moving average (thick); loss on each "
        "evaluated split (markers). Dashed: baselines. Solid gray: published losses; dotted: "
        "published, not comparable. A held-out loss that rises above the training loss shows "
        "overfitting.",
        f"Curves of the loss in {unit} against training steps. Last values: {last_values}.",
    )


def _plot_loss(axes, split, color, steps, values):
    """Plots one curve and returns its last (smoothed) value."""
    marker = {"marker": "o", "markersize": 3.5}
    if split == "train":
        axes.plot(steps, values, color=color, alpha=0.35, linewidth=0.7)
        values, marker = smoothed(values), {}
    axes.plot(steps, values, color=color, label=f"{humanize(split)}: {values[-1]:.3f}", **marker)
    return float(values[-1])


def _baseline_lines(baselines):
    """Returns (label, value, line style) of each baseline."""
    return [
        (f"{humanize(name)} {value:.2f}", value, "dashed")
        for name, value in loss_baselines(baselines).items()
        if np.isfinite(value)
    ]


def _published_lines(comparison, unit):
    lines = []
    for row in comparison:
        if row["unit"] == unit and row["metric"].endswith("loss"):
            caveat, line = ("", "solid") if row["comparable"] else (" (not comparable)", "dotted")
            label = f"{row['quantity']}: {row['published']:.5g}{caveat}"
            lines.append((label, row["published"], line))
    return lines


def _plot_lines(axes, lines, curves_end):
    """Plots horizontal lines with labels, placed where the decreasing curves leave space."""
    from matplotlib.patheffects import withStroke

    # Positions on the axis, as fractions of its length.
    scale = axes.transScale + axes.transLimits
    heights = [float(scale.transform((0, value))[1]) for _, value, _ in lines]
    for (label, value, line_style), height in zip(lines, heights, strict=True):
        axes.axhline(value, color=style.MUTED, linestyle=line_style, linewidth=0.9, zorder=1)
        right = value > curves_end
        # Below the line if the label of the next line above would overlap.
        under = any(0 < other - height < LABEL_HEIGHT for other in heights)
        axes.annotate(
            label,
            xy=(1 if right else 0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-3 if right else 3, -2 if under else 1.5),
            textcoords="offset points",
            horizontalalignment="right" if right else "left",
            verticalalignment="top" if under else "bottom",
            fontsize=8,
            color=style.MUTED,
            path_effects=[withStroke(linewidth=2, foreground="white")],  # legible on a curve
        )


def _scale_losses(axes, values):
    """Sets a logarithmic axis for positive losses, which resolves the lower end."""
    low, high = values.min(), values.max()
    if low <= 0 or high < 1.3 * low:
        return
    axes.set(yscale="log", ylim=(low / 1.08, high * 1.14))
    _plain_ticks(axes, LOSS_TICKS)


def _plain_ticks(axes, ticks):
    from matplotlib.ticker import FixedLocator  # unlike `set_yticks`, it keeps the limits

    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")


def _perplexity_axis(axes):
    """Adds the exponential of the loss on the right."""

    # matplotlib evaluates these far outside the plotted range.
    def to_perplexity(loss):
        return np.exp(np.minimum(loss, 700))

    def to_loss(perplexity):
        return np.log(np.maximum(perplexity, 1e-300))

    right = axes.secondary_yaxis("right", functions=(to_perplexity, to_loss))
    right.set_ylabel("perplexity")
    low, high = to_perplexity(np.array(axes.get_ylim()))
    # Ticks at even steps of the log perplexity stay legible for any loss.
    ticks = [tick for power in range(6) for tick in 10**power * np.array([1, 1.5, 2, 3, 5, 7])]
    _plain_ticks(right, [tick for tick in ticks if low < tick < high])


def _time_axis(axes, rows):
    """Adds the training time on top if it is logged and strictly increasing."""
    steps, seconds = (np.append(0, values) for values in series(rows, "train", "seconds"))
    if steps.size < 3 or np.any(np.diff(seconds) <= 0) or np.any(np.diff(steps) <= 0):
        return
    unit, name = (1, "seconds") if seconds[-1] < 300 else (60, "minutes")
    slope = (steps[-1] - steps[0]) / (seconds[-1] - seconds[0]) * unit

    # Linear extrapolation: the axis reaches slightly past the logged steps.
    def to_time(step):
        inside = np.clip(step, steps[0], steps[-1])
        return np.interp(inside, steps, seconds / unit) + (step - inside) / slope

    def to_step(time):
        inside = np.clip(time, seconds[0] / unit, seconds[-1] / unit)
        return np.interp(inside, seconds / unit, steps) + (time - inside) * slope

    top = axes.secondary_xaxis("top", functions=(to_time, to_step))
    top.set_xlabel(f"training time [{name}]")
