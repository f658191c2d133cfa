"""What a drawing function returns."""

import dataclasses

from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a run.

    Attributes:
      name: file name without its ending.
      title: a few words.
      caption: what to see in it.
      alt: what it shows, for those who cannot see it.
      figure: the drawing.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
