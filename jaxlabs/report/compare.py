"""The page of a comparison of runs: verdicts, a table, and the curves."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs.report import html, style
from jaxlabs.report.curves import Rows, humanize, series
from jaxlabs.report.figure import ReportFigure


@dataclasses.dataclass(frozen=True)
class Curve:
    """A run whose curve is plotted.

    Attributes:
      rows: the rows of metrics.jsonl.
      flops_per_step: FLOPs of a training step; None if unknown.
    """

    rows: Rows
    flops_per_step: float | None


@dataclasses.dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
      title: its title.
      columns: headings of the table.
      rows: the groups of runs, as text.
      sentences: verdicts and notes.
      curves: the runs of each group, by its name in the legend.
      split: the evaluated split; empty if the metric has no curve.
      value: name of the metric in the rows of the split.
      unit: unit of the metric.
      folders: group, seed and path of every run.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str]
    curves: Mapping[str, Sequence[Curve]]
    split: str
    value: str
    unit: str
    folders: Sequence[tuple[str, int, str]]


NOTE = (
    "Mean over seeds ± standard deviation. A verdict is Student's paired t-test at the 5 % level"
    " (95 % confidence): it is undecided while the interval of the mean difference over common"
    " seeds contains 0. With several groups, each is compared with the first one, and the intervals"
    " are not widened for their number. A number of seeds that follows from the observed difference"
    " is optimistic."
)


def document(content: Content) -> str:
    """Returns the whole page, which loads nothing over the network."""
    heading = f"<header><h1>{html.text(content.title)}</h1></header>"
    return html.document(content.title, heading + fragment(content))


def fragment(content: Content, *, width: int | None = None) -> str:
    """Returns the content of the page, for a notebook with figures of `width` pixels."""
    verdicts = "".join(f"<li>{html.text(sentence)}</li>" for sentence in content.sentences)
    cells = [[html.text(cell) for cell in row] for row in content.rows]
    numbers = content.columns[2:]
    table = html.table(content.columns, cells, numbers=numbers, cards=True)
    parts = [
        html.section("verdicts", "Verdicts", f"<ul>{verdicts}</ul>" if verdicts else ""),
        html.section("groups", "Groups", table, html.note(NOTE)),
    ]
    with style.mpl_style():
        if (item := curves(content)) is not None:
            image = html.image(
                style.png(item.figure), alt=item.alt, caption=item.caption, width=width
            )
            parts.append(html.section("curves", item.title, image))
    folders = [[html.text(cell) for cell in row] for row in content.folders]
    parts.append(html.section("runs", "Runs", html.table(["group", "seed", "folder"], folders)))
    return "\n".join(filter(None, parts))


def curves(content: Content) -> ReportFigure | None:
    """Plots the metric against steps, training time and training FLOPs; None without a curve."""
    if not content.split:
        return None
    shown = list(content.curves.items())[: len(style.COLORS)]
    axes_names = ["step", "training time [s]"]
    if all(curve.flops_per_step for _, runs in shown for curve in runs):
        axes_names.append("training FLOPs")
    figure = style.new_figure(2.3 * len(axes_names) + 0.3 * len(shown))
    panels = figure.subplots(len(axes_names), sharey=True, squeeze=False)[:, 0]
    for (name, runs), color in zip(shown, style.COLORS, strict=False):
        for panel, axis in zip(panels, axes_names, strict=True):
            _plot_group(panel, axis, [_values(content, curve, axis) for curve in runs], color, name)
    values = np.concatenate([line.get_ydata() for line in panels[0].lines])
    for panel, axis in zip(panels, axes_names, strict=True):
        panel.set(
            xlabel=axis, ylabel=f"{humanize(content.value)} {content.unit and f'[{content.unit}]'}"
        )
        if values.size and values.min() > 0 and values.max() > 1.3 * values.min():
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("{x:g}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", handlelength=1.4)
    more = len(content.curves) - len(shown)
    return ReportFigure(
        name="compare",
        title="Curves",
        caption=(
            f"{humanize(content.value).capitalize()} on the split {humanize(content.split)}: single"
            " runs (thin) and the mean over seeds at common steps (thick). FLOPs are those of the"
            " matmuls and convolutions of the training steps."
            + (f" {more} more groups are not shown." if more else "")
        ),
        alt=f"{humanize(content.value)} against {', '.join(axes_names)}, one color for each group.",
        figure=figure,
    )


def _values(content: Content, curve: Curve, axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns steps, positions on an axis, and values of a run, `[evaluations]` each."""
    steps, values = series(curve.rows, content.split, content.value)
    if axis == "step":
        return steps, steps, values
    if axis == "training FLOPs":
        return steps, steps * curve.flops_per_step, values
    at, seconds = series(curve.rows, content.split, "seconds")
    return steps, np.interp(steps, at, seconds), values


def _plot_group(panel: Any, axis: str, runs: Sequence[Any], color: str, name: str) -> None:
    """Plots the curves of a group of runs and their mean at common steps."""
    if len(runs) > 1:
        for _, x, values in runs:
            panel.plot(x, values, color=color, alpha=0.35, linewidth=0.7)
    shared = functools.reduce(np.intersect1d, [steps for steps, *_ in runs])
    kept = [(x[np.isin(steps, shared)], y[np.isin(steps, shared)]) for steps, x, y in runs]
    x, y = (np.mean(values, axis=0) for values in zip(*kept, strict=True))
    panel.plot(x, y, color=color, marker="o", markersize=3, label=name)
