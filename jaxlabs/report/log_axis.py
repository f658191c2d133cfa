"""Logarithmic axes with powers of ten as labels, in plain Unicode (mathtext is off)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_axis_y(axes: Axes, low: float, high: float) -> None:
    """Makes the y axis logarithmic from `low` to `high`, with at most six labeled ticks."""
    axes.set(yscale="log", ylim=(low, high))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    label_powers(axes.yaxis)


def label_powers(axis: Axis) -> None:
    """Labels the ticks of a logarithmic axis with powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))


def power_of_ten(value: float) -> str:
    """Formats a positive number as the nearest power of ten, such as 10⁻³; 0 stays 0."""
    if value <= 0:
        return "0"
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)
