"""The look of every picture: sizes, colours and PNG bytes, without pyplot's global figures."""

import contextlib
import io
import warnings
from collections.abc import Iterator

import matplotlib
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxlabs.report.picture import Animation

# Okabe and Ito (2008), "Color universal design", darkened where thin lines on white need it.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#00805E", "#B0569A"
ORANGE, SKY = "#B07700", "#3C9DD0"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SCALE = matplotlib.colormaps["viridis"]
INK, MUTED, HAIRLINE = "#1d2129", "#5d6470", "#e3e6ea"

# Narrow enough that type stays readable when a phone shows the picture 350 pixels wide.
WIDTH = 5.0
DOTS_PER_INCH = 200

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
def house_style() -> Iterator[None]:
    """Holds the house style while pictures are drawn and rendered."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # A text in any script may be trained on; what the font lacks is drawn as an empty box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Returns an empty figure, `height` inches high; only many small labels ask for more width."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure | Animation) -> bytes:
    """Renders a figure on white; an animation as an animated PNG, which browsers play."""
    buffer = io.BytesIO()
    if isinstance(figure, Animation):
        first, *others = (PIL.Image.fromarray(frame) for frame in figure.frames)
        shown = list(figure.milliseconds)
        first.save(buffer, "png", save_all=True, append_images=others, duration=shown, loop=0)
        return buffer.getvalue()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    return buffer.getvalue()


def frame_only(axes: Axes) -> None:
    """Turns grid, tick marks and spines off, for axes that hold an image."""
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
