"""The look of every picture: sizes, colors and PNG bytes, without pyplot's global figures."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxlabs import load_matplotlib
from jaxlabs.report import fonts
from jaxlabs.report.figure import Animation

# Okabe and Ito (2008), "Color universal design", darkened where thin lines on white need it.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#00805E", "#B0569A"
ORANGE, SKY = "#B07700", "#3C9DD0"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SCALE = matplotlib.colormaps["viridis"]
INK, MUTED, HAIRLINE = "#1d2129", "#5d6470", "#e3e6ea"

# Narrow enough that type stays readable when a phone shows the picture 350 pixels wide.
WIDTH = 5.0
DOTS_PER_INCH = 200

MISSING_GLYPH = r"Glyph (\d+) .*missing from"
"""How matplotlib's warning begins that a font lacks a character, and which one."""

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
    """Holds the house style while pictures are drawn and rendered.

    It begins with matplotlib's defaults: the user's matplotlibrc is not for these figures.
    """
    defaults = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"
    }
    style = matplotlib.rc_context(defaults | _SETTINGS)
    with style, load_matplotlib.no_log(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=MISSING_GLYPH)  # see `render`
        yield


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Returns an empty figure, `height` inches high; only many small labels ask for more width."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class Rendered(NamedTuple):
    """A figure as a file.

    Attributes:
      png: the file.
      missing: characters that no installed font has, each drawn as the same sign.
    """

    png: bytes
    missing: frozenset[str]


def png(figure: Figure | Animation) -> bytes:
    """Returns the PNG of `render`."""
    return render(figure).png


def render(figure: Figure | Animation) -> Rendered:
    """Renders a figure on white; an animation as an animated PNG, which browsers play.

    What the font of the house lacks comes from other fonts, where one of them has it.
    """
    if isinstance(figure, Animation):
        return Rendered(_animated_png(figure), frozenset())
    rendered = _saved(figure)
    # To look for fonts takes time, which a page in letters that DejaVu has need not spend.
    families = fonts.families_with(rendered.missing) if rendered.missing else []
    if not families:
        return rendered
    for label in figure.findobj(Text):
        label.set_fontfamily([*label.get_fontfamily(), *families])
    return _saved(figure)


def _saved(figure: Figure) -> Rendered:
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=MISSING_GLYPH)
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    numbers = [re.match(MISSING_GLYPH, str(warning.message)) for warning in caught]
    for warning, number in zip(caught, numbers, strict=True):
        if number is None:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    missing = frozenset(chr(int(number[1])) for number in numbers if number is not None)
    return Rendered(buffer.getvalue(), missing)


def _animated_png(animation: Animation) -> bytes:
    buffer = io.BytesIO()
    first, *others = (PIL.Image.fromarray(frame) for frame in animation.frames)
    shown = list(animation.milliseconds)
    first.save(buffer, "png", save_all=True, append_images=others, duration=shown, loop=0)
    return buffer.getvalue()


def frame_only(axes: Axes) -> None:
    """Turns grid, tick marks and spines off, for axes that hold an image."""
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
