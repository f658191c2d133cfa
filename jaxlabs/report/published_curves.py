"""Learning curves of a run beside published ones."""

from collections.abc import Sequence

import numpy as np

from jaxlabs.published import PublishedCurve
from jaxlabs.report import style
from jaxlabs.report.curves import Rows, humanize, series
from jaxlabs.report.figure import Figure, report_figure

MARKERS = ("D", "o", "s", "^")
"""Markers of the documents that publish one metric."""


@report_figure("Published curves", name="published_curves")
def published_comparison(
    figure: Figure, rows: Rows, curves: Sequence[PublishedCurve], not_comparable_reason: str = ""
) -> tuple[str, str] | None:
    """Plots one panel for each metric that is published at several steps.

    None if nothing is published for the preset, or no row of metrics.jsonl has such a metric.
    """
    metrics = dict.fromkeys(curve.metric for curve in curves)
    # Several documents may publish the same metric; our line is plotted once.
    ours = {_ours(curve): _means(rows, curve) for curve in curves}
    if not any(steps.size for steps, _ in ours.values()):
        return None
    figure.set_figheight(2.7 * len(metrics) + 0.4)
    grid = figure.subplots(len(metrics), squeeze=False)
    for axes, metric in zip(grid[:, 0], metrics, strict=True):
        members = [curve for curve in curves if curve.metric == metric]
        lines = dict.fromkeys(_ours(curve) for curve in members)
        colors = dict(zip(lines, style.COLORS, strict=False))
        markers = {line: iter(MARKERS) for line in lines}
        for curve in members:
            line, split = _ours(curve), humanize(curve.split)
            color, marker = colors[line], next(markers[line])
            if marker == MARKERS[0]:
                steps, values = ours[line]
                axes.plot(steps, values, color=color, label=f"{split}, ours")
            options = {"label": f"{split}, {curve.label}", "markersize": 4, "ls": ""}
            axes.plot(curve.steps, curve.values, marker, color=color, **options)
        unit = members[0].unit
        named = metric if unit in ("fraction", metric) else f"{metric} [{unit}]"
        axes.set(xlabel="step", ylabel=named)
        shown = np.concatenate([line.get_ydata() for line in axes.lines])
        if shown.min() > 0 and shown.max() > 5 * shown.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=1.4)
    over = max(curve.window for curve in curves)
    sources = "; ".join(dict.fromkeys(f"{curve.source} ({curve.note})" for curve in curves))
    return (
        "Lines: this run. Markers: published values."
        + (f" Each value is the mean over {over} steps." if over > 1 else "")
        + f" Source: {sources}."
        + (f" Not comparable: {not_comparable_reason}." if not_comparable_reason else ""),
        f"{', '.join(metrics)} against training steps, ours and published.",
    )


def _ours(curve):
    """Returns the key of our line."""
    return curve.split, curve.metric, curve.window


def _means(rows, curve):
    """Returns our steps and values, averaged like the published ones."""
    steps, values = series(rows, curve.split, curve.metric)
    if curve.window == 1:
        return steps, values
    epoch = -(-steps // curve.window)
    whole = np.arange(1, (steps.max() if steps.size else 0) // curve.window + 1)
    means = [values[epoch == number].mean() for number in whole]
    return whole * curve.window, np.array(means)
