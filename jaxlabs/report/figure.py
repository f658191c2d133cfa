"""What a drawing function returns."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Animation:
    """Frames that are shown one after another, over and over.

    Attributes:
      frames: [frames, height, width] or [frames, height, width, 3] uint8.
      milliseconds: how long each frame stands.
    """

    frames: np.ndarray
    milliseconds: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """One picture of a run.

    Attributes:
      name: file name without its ending.
      title: a few words.
      caption: what to see in it.
      alt: what it shows, for those who cannot see it.
      figure: the drawing; where it moves, its first frame stands for it outside browsers.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure | Animation
