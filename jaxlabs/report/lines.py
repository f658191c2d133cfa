"""Lines and ticks that many plots share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from jaxlabs.report import style

LINES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker} for color, marker in zip(style.COLORS, "os^DvP", strict=True)
)
"""Color and marker of the first line, of the second, and so on."""


def band(
    axes: Axes, x: np.ndarray, middle: np.ndarray, low: np.ndarray, high: np.ndarray, **line: Any
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
    axes.xaxis.set_minor_locator(NullLocator())
