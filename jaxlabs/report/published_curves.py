"""A run's figures step by step beside those that a document states."""

from collections.abc import Sequence

import numpy as np

from jaxlabs.published import PublishedCurve
from jaxlabs.report import style
from jaxlabs.report.curves import Rows, series, words
from jaxlabs.report.picture import Picture


def beside_published(
    rows: Rows, curves: Sequence[PublishedCurve], why_not: str = ""
) -> Picture | None:
    """Draws one panel for each figure that is published at several steps.

    Args:
      rows: the rows of metrics.jsonl.
      curves: the published ones of the run's experiment and preset.
      why_not: what keeps the run from comparison; empty when nothing does.

    Returns:
      The picture, or None where nothing is published or nothing has been logged yet.
    """
    metrics = dict.fromkeys(curve.metric for curve in curves)
    logged = {id(c): series(rows, c.split, c.metric) for c in curves}
    if not any(steps.size for steps, _ in logged.values()):
        return None
    figure = style.new_figure(2.7 * len(metrics) + 0.4)
    grid = figure.subplots(len(metrics), squeeze=False)
    for axes, metric in zip(grid[:, 0], metrics, strict=True):
        members = [curve for curve in curves if curve.metric == metric]
        for curve, colour in zip(members, style.COLOURS, strict=False):
            steps, values = logged[id(curve)]
            axes.plot(steps, values, color=colour, label=f"{words(curve.split)}, ours")
            label = f"{words(curve.split)}, published"
            axes.plot(curve.steps, curve.values, "D", color=colour, markersize=4, label=label)
        unit = members[0].unit
        axes.set(
            xlabel="step", ylabel=metric if unit in ("share", metric) else f"{metric} [{unit}]"
        )
        shown = np.concatenate([line.get_ydata() for line in axes.lines])
        if shown.min() > 0 and shown.max() > 5 * shown.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=1.4)
    sources = "; ".join(dict.fromkeys(f"{curve.source} ({curve.note})" for curve in curves))
    return Picture(
        name="published_curves",
        title="Beside the published curves",
        caption=(
            f"Lines: this run. Diamonds: published values. Source: {sources}."
            + (f" Not comparable: {why_not}." if why_not else "")
        ),
        alt=f"{', '.join(metrics)} against training steps, ours and published.",
        figure=figure,
    )
