"""The result of a plot function: a figure with its title, caption and alt text."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Animation:
    """A looping animation.

    Attributes:
      frames: [frames, height, width] or [frames, height, width, 3] uint8.
      milliseconds: duration of each frame.
    """

    frames: np.ndarray
    milliseconds: Sequence[int]


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
    figure: Figure | Animation
