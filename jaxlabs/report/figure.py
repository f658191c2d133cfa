"""Plot functions of a report, and their result: a figure with title, caption and alt text."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxlabs.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # matplotlib is imported with the first figure
    Axes = Figure = Any

Arrays = Mapping[str, np.ndarray]
"""The arrays of one file of a run folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """One figure of a report.

    Attributes:
      name: file name without its extension.
      title: heading of the figure.
      caption: what the figure shows and how to read it.
      alt: text alternative for screen readers.
      figure: a matplotlib figure, or an animation (programs without APNG show its first frame).
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: "Figure | style.Animation"


def report_figure(
    title: str, height: float = style.WIDTH, *, name: str = "", alt: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a plot function, `arrays -> ReportFigure`, of one that fills a given figure.

    The decorated function gets an empty figure and returns the caption, or caption and alt text,
    or None if there is nothing to plot.

    Args:
      title: heading of the figure.
      height: of the figure, in inches.
      name: file name without its extension; by default that of the function.
      alt: text alternative; by default the first sentence of the function's docstring.
    """

    def decorate(fill: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fill)
        def plot(*arguments: Any, **options: Any) -> ReportFigure | None:
            figure = style.new_figure(height)
            found = fill(figure, *arguments, **options)
            if found is None:
                return None
            if isinstance(found, str):
                found = found, alt or fill.__doc__.partition("\n")[0]
            caption, text = found
            return ReportFigure(
                name=name or fill.__name__, title=title, caption=caption, alt=text, figure=figure
            )

        return plot

    return decorate
