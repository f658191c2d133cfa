"""Plots of a sweep: metrics against the settings, and the loss of every group of runs."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.curves import Rows, humanize, series
from jaxlabs.report.figure import Figure, report_figure

Groups = Sequence[Mapping[str, Any]]
MAX_CURVES = 8
"""Groups whose losses are plotted."""


@report_figure("Metrics against settings", name="sweep")
def against_settings(figure: Figure, groups: Groups, question: str) -> tuple[str, str] | None:
    """Plots each metric against the first setting: single runs, means and standard deviations.

    The groups are those of the summary; None if only the seed varies.
    """
    names = list(groups[0]["settings"])
    if not names:
        return None
    metrics = list(groups[0]["metrics"])
    columns = 2 if len(metrics) > 1 else 1
    rows = -(-len(metrics) // columns)
    figure.set_figheight(2.5 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        _plot(axes, groups, names, metric)
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside upper left", ncols=2, handlelength=1.4)
    return (
        f"{question} Points: single runs. Lines: means over seeds; error bars: one standard "
        "deviation.",
        f"{', '.join(map(humanize, metrics))} against {humanize(names[0])}.",
    )


def _plot(axes, groups, names, metric):
    """Plots one metric, with one line for each combination of the other settings."""
    first, *others = names
    values = list(dict.fromkeys(_format_setting(group["settings"][first]) for group in groups))
    lines: dict[str, list] = {}
    for group in groups:
        lines.setdefault(_named(group, others), []).append(group)
    for (label, members), color in zip(lines.items(), _colors(len(lines)), strict=True):
        positions = [values.index(_format_setting(group["settings"][first])) for group in members]
        statistics = [group["metrics"][metric] for group in members]
        for position, one in zip(positions, statistics, strict=True):
            runs = np.array(one["values"], float)  # None is NaN
            axes.plot([position] * len(runs), runs, ".", color=color, alpha=0.45, markersize=4)
        stds = [one["std"] or 0.0 for one in statistics]
        means = np.array([one["mean"] for one in statistics], float)
        line = {"color": color, "marker": "o", "markersize": 4, "label": label}
        axes.errorbar(positions, means, stds, **line)
    axes.set_xticks(range(len(values)), values)
    axes.set(title=humanize(metric), xlabel=humanize(first))
    axes.margins(x=0.08)


@report_figure(
    "Loss curves of the sweep",
    3.6,
    name="sweep_losses",
    alt="Curves of the loss against training steps, one for each combination of settings.",
)
def losses(
    figure: Figure, groups: Groups, rows_by_run: Mapping[str, Rows], unit: str
) -> str | None:
    """Plots the loss of every group on its first evaluated split, averaged over the seeds.

    `rows_by_run` has the rows of metrics.jsonl by the run's name. None if no evaluation is logged.
    """
    axes = figure.subplots()
    plotted = 0
    shown = list(groups)[:MAX_CURVES]
    for group, color in zip(shown, _colors(len(shown)), strict=True):
        curves = []
        for rows in (rows_by_run[run] for run in group["runs"]):
            split = next((row["split"] for row in rows if row["split"] != "train"), None)
            curves.append(series(rows, split, "loss"))
        curves = [curve for curve in curves if curve[0].size]
        if not curves:
            continue
        steps = functools.reduce(np.intersect1d, [found for found, _ in curves])
        same = [values[np.isin(found, steps)] for found, values in curves]
        line = {"marker": "o", "markersize": 3, "label": _named(group, group["settings"])}
        axes.plot(steps, np.mean(same, axis=0), color=color, **line)
        plotted += steps.size > 1
    if not plotted:
        return None
    axes.set(xlabel="step", ylabel=f"loss [{unit}]")
    if np.all(np.concatenate([line.get_ydata() for line in axes.lines]) > 0):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    if len(groups) > 1:
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.4)
    hidden = len(groups) - len(shown)
    more = f" {hidden} more groups are not shown." if hidden else ""
    return (
        "Loss on the first evaluated split, mean over seeds, at the steps that all runs of a "
        f"group share.{more}"
    )


def _colors(count):
    """Returns distinct colors: those of the style, or a color map if there are too few."""
    import matplotlib

    if count <= len(style.COLORS):
        return list(style.COLORS[:count])
    return list(matplotlib.colormaps[style.SCALE](np.linspace(0, 0.92, count)))


def _named(group, names):
    """Returns some settings of a group as text."""
    settings = group["settings"]
    return ", ".join(f"{humanize(name)} {_format_setting(settings[name])}" for name in names)


def _format_setting(value):
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
