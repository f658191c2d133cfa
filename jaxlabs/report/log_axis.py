"""Powers of ten along a logarithmic axis, without the mathematical typesetting that is off."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_axis_y(axes: Axes, low: float, high: float) -> None:
    """Makes the y axis logarithmic from `low` to `high`, with at most six powers of ten named."""
    axes.set(yscale="log", ylim=(low, high))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))


def power_of_ten(value: float) -> str:
    """Writes the nearest power of ten of a number above 0; a 0 as itself."""
    if value <= 0:
        return "0"
    return "10" + str(round(np.log10(value))).translate(_RAISED)
