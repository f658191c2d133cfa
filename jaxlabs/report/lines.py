"""Lines, ticks and logarithmic axes that many plots share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Axes

LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker} for color, marker in zip(style.COLORS, "os^DvP", strict=True)
)
"""Color and marker of the first line, of the second, and so on."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def band(
    axes: Axes, x: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray, **line: Any
) -> None:
    """Plots the line `middle [x]`, with a band from `low [x]` to `high [x]` in its color."""
    axes.plot(x, middle, **line)
    axes.fill_between(x, low, high, color=line["color"], alpha=0.15, linewidth=0)


def reference(
    axes: Axes, y: float, text: str = "", *, end: str = "left", below: bool = False
) -> None:
    """Plots a dotted horizontal line, with a text above or below its left or right end."""
    axes.axhline(y, color=style.MUTED, linestyle="dotted", linewidth=1)
    if text:
        axes.annotate(
            text,
            (float(end == "right"), y),
            xycoords=("axes fraction", "data"),
            xytext=(0, -11 if below else 3),
            textcoords="offset points",
            ha=end,
            fontsize=8.5,
            color=style.MUTED,
        )


def label_x(axes: Axes, ticks: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Labels the x axis at these ticks only; by default with their values."""
    axes.set_xticks(ticks, labels or [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()


def write_values(axes: Axes, texts: np.ndarray, dark: np.ndarray, **options: Any) -> None:
    """Writes `texts [rows, columns]` into the cells of a map, in white where these are `dark`."""
    for (row, column), text in np.ndenumerate(texts):
        color = "white" if dark[row, column] else style.INK
        axes.text(column, row, text, ha="center", va="center", color=color, **options)


def log_axis_y(axes: Axes, low: float, high: float) -> None:
    """Makes the y axis logarithmic from `low` to `high`, with at most six labeled ticks."""
    axes.set(yscale="log", ylim=(low, high))
    axes.yaxis.get_major_locator().set_params(numticks=6)
    axes.yaxis.minorticks_off()
    label_powers(axes)


def label_powers(axes: Axes) -> None:
    """Labels the ticks of a logarithmic y axis with powers of ten, in plain Unicode."""
    axes.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))


def power_of_ten(value: float) -> str:
    """Formats a positive number as the nearest power of ten, such as 10⁻³; 0 stays 0."""
    if value <= 0:
        return "0"
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPTS)
