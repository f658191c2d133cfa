"""Style of all figures: sizes, colors and rendering to PNG, without pyplot's global state."""

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxlabs import load_matplotlib
from jaxlabs.report import fonts

if TYPE_CHECKING:  # matplotlib is imported with the first figure
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color universal design"; some are darker, for thin lines on white.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#00805E", "#B0569A"
ORANGE, SKY = "#B07700", "#3C9DD0"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SCALE = "viridis"
INK, MUTED, HAIRLINE = "#1d2129", "#5d6470", "#e3e6ea"

# Inches; text stays readable when a phone shows the figure 350 pixels wide.
WIDTH = 5.0
DOTS_PER_INCH = 200

MISSING_GLYPH = r"Glyph (\d+) .*missing from"
"""Start of matplotlib's warning about a character that the font lacks."""

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextlib.contextmanager
def mpl_style() -> Iterator[None]:
    """Sets the matplotlib style while figures are plotted and rendered.

    It starts from matplotlib's defaults and ignores the user's matplotlibrc.
    """
    load_matplotlib.load()
    import matplotlib

    defaults = dict(matplotlib.rcParamsDefault)
    del defaults["backend"]
    style = matplotlib.rc_context(defaults | _SETTINGS)
    with style, load_matplotlib.no_log(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=MISSING_GLYPH)  # see `render`
        yield


def new_figure(height: float, *, width: float = WIDTH) -> "Figure":
    """Returns an empty figure of `height` by `width` inches."""
    load_matplotlib.load()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Animation:
    """A looping animation.

    Attributes:
      frames: [frames, height, width] or [frames, height, width, 3] uint8.
      milliseconds: duration of each frame.
    """

    frames: np.ndarray
    milliseconds: Sequence[int]


class Rendered(NamedTuple):
    """The content of a PNG file, and the characters that no installed font has.

    Each of these is rendered as a placeholder.
    """

    png: bytes
    missing: frozenset[str]


def png(figure: "Figure | Animation") -> bytes:
    """Returns the PNG of `render`."""
    return render(figure).png


def render(figure: "Figure | Animation") -> Rendered:
    """Renders a figure on white; an animation becomes an animated PNG.

    Characters that the default font lacks come from other installed fonts.
    """
    if isinstance(figure, Animation):
        return Rendered(_animated_png(figure), frozenset())
    rendered = _saved(figure)
    # The font search is slow, so it runs only if a character is missing.
    families = fonts.families_with(rendered.missing) if rendered.missing else []
    if not families:
        return rendered
    from matplotlib.text import Text

    for label in figure.findobj(Text):
        label.set_fontfamily([*label.get_fontfamily(), *families])
    return _saved(figure)


def _saved(figure: "Figure") -> Rendered:
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=MISSING_GLYPH)
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    missing = set()
    for warning in caught:
        if number := re.match(MISSING_GLYPH, str(warning.message)):
            missing.add(chr(int(number[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Rendered(buffer.getvalue(), frozenset(missing))


def _animated_png(animation: Animation) -> bytes:
    import PIL.Image

    buffer = io.BytesIO()
    first, *others = (PIL.Image.fromarray(frame) for frame in animation.frames)
    shown = list(animation.milliseconds)
    first.save(buffer, "png", save_all=True, append_images=others, duration=shown, loop=0)
    return buffer.getvalue()


def frame_only(axes: "Axes") -> None:
    """Hides grid, ticks and spines, for axes that show an image."""
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
