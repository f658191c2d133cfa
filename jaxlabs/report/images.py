"""Pictures made of pictures: samples, reconstructions, filters, and what whitening does."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure

# More small pictures than these are too small to be seen.
MAX_SAMPLES, MAX_COLUMNS, MAX_RECONSTRUCTIONS, MAX_STEPS = 100, 10, 20, 12
WHITE, GAP = 1.0, 1


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Puts pictures of one size onto a white sheet, row by row, a pixel apart.

    Args:
      images: [count, height, width] or [count, height, width, 1 or 3], values in [0, 1]; what lies
        outside is cut.
      columns: pictures in a row; None makes a square.

    Returns:
      [height, width], or [height, width, 3] for pictures with colors.
    """
    images = np.clip(np.asarray(images, np.float64), 0, 1)
    count, height, width = images.shape[:3]
    channels = images.shape[3] if images.ndim == 4 and images.shape[3] > 1 else 1
    images = images.reshape(count, height, width, channels)
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    down, right = height + GAP, width + GAP
    sheet = np.full((rows * down - GAP, columns * right - GAP, channels), WHITE)
    for place, image in enumerate(images):
        top, left = place // columns * down, place % columns * right
        sheet[top : top + height, left : left + width] = image
    return sheet if channels > 1 else sheet[..., 0]


def labeled_rows(blocks: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """Draws blocks of rows of pictures, each row beside its name.

    Args:
      blocks: by name, in order, [columns, height, width(, channels)] in [0, 1]; all rows of all
        blocks are of one shape.
    """
    longest = max(len(name) for rows in blocks for name in rows)
    left = 0.15 + 0.075 * longest  # inches, as all lengths here
    width, apart = style.WIDTH - left, 0.15
    sheets = [tile(np.concatenate(list(rows.values())), _columns(rows)) for rows in blocks]
    heights = [width * sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure = style.new_figure(sum(heights) + apart * (len(blocks) - 1))
    # A layout engine would not leave room for the names beside axes of fixed aspect.
    figure.set_layout_engine("none")
    total = bottom = figure.get_figheight()
    for rows, sheet, height in zip(blocks, sheets, heights, strict=True):
        bottom -= height
        axes = figure.add_axes(
            (left / style.WIDTH, bottom / total, width / style.WIDTH, height / total)
        )
        bottom -= apart
        _show(axes, sheet)
        pitch = (sheet.shape[0] + GAP) / len(rows)
        centers = [(row + 0.5) * pitch - GAP / 2 - 0.5 for row in range(len(rows))]
        axes.set_yticks(centers, list(rows))
    return figure


def samples(images: np.ndarray) -> ReportFigure:
    """Draws what a trained model made, `[count, height, width(, channels)]` in [0, 1]."""
    shown = images[:MAX_SAMPLES]
    return ReportFigure(
        name="samples",
        title="Samples of the trained model",
        caption=(
            f"The first {len(shown)} of {len(images)} samples, none chosen."
            if len(shown) < len(images)
            else f"All {len(images)} samples that were drawn, none chosen."
        ),
        alt=f"{len(shown)} pictures that the model made.",
        figure=whole_sheet(tile(shown)),
    )


def samples_during_training(images_by_step: Mapping[int, np.ndarray]) -> ReportFigure:
    """Draws the first samples of each step, one row a step; of many steps some are left out."""
    steps = sorted(images_by_step)
    if len(steps) > MAX_STEPS:
        evenly = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
        steps = [steps[place] for place in evenly]
    columns = min(MAX_COLUMNS, *(len(images_by_step[step]) for step in steps))
    rows = {f"step {step:,}": images_by_step[step][:columns] for step in steps}
    return ReportFigure(
        name="samples_during_training",
        title="Samples as training went on",
        caption="Each row shows the first samples that the model made after so many steps.",
        alt=f"{columns} pictures from each of {len(steps)} moments of training.",
        figure=labeled_rows([rows]),
    )


def reconstructions(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws `inputs` above `outputs`, each `[count, height, width(, channels)]` in [0, 1].

    Any further array of that kind makes a further row, under its own name.
    """
    names = ["inputs", *(name for name in arrays if name != "inputs")]
    count = min(MAX_RECONSTRUCTIONS, *(len(arrays[name]) for name in names))
    columns = min(count, MAX_COLUMNS)
    count -= count % columns  # full rows look alike
    blocks = [
        {name.replace("_", " "): arrays[name][start : start + columns] for name in names}
        for start in range(0, count, columns)
    ]
    return [
        ReportFigure(
            name="reconstructions",
            title="Pictures and their reconstructions",
            caption="Each picture stands above what the model made of it.",
            alt=f"{count} pictures, each above its reconstruction.",
            figure=labeled_rows(blocks),
        )
    ]


def filters(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws `filters [count, height, width(, 3)]`, the contrast of each by itself."""
    weights = np.asarray(arrays["filters"], np.float64)
    rest = tuple(range(1, weights.ndim))
    largest = np.abs(weights).max(axis=rest, keepdims=True)
    shown = 0.5 + 0.5 * weights / np.maximum(largest, np.finfo(np.float64).tiny)
    return [
        ReportFigure(
            name="filters",
            title="Filters",
            caption=(
                f"What each of {len(weights)} hidden units looks for: white where a bright pixel "
                "drives it up, black where one drives it down. Mid-gray is a weight of zero. Each "
                "filter has its own scale, so that weak ones are seen as well."
            ),
            alt=f"{len(weights)} filters in a square.",
            figure=whole_sheet(tile(shown)),
        )
    ]


def whitening(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws one picture before and after whitening, and the spectra of all.

    Arrays: `image_before` and `image_after [height, width]`; `frequency [bins]` in cycles per
    picture; `amplitude_before` and `amplitude_after [bins]`.
    """
    figure = style.new_figure(5.2)
    panels = figure.subplot_mosaic(
        [["before", "after"], ["spectrum", "spectrum"]], height_ratios=(1, 1.05)
    )
    for when in ("before", "after"):
        image = arrays[f"image_{when}"]
        middle, spread = np.median(image), 3 * image.std()
        limits = {"vmin": middle - spread, "vmax": middle + spread} if when == "after" else {}
        style.frame_only(panels[when])
        panels[when].imshow(image, cmap="gray", **limits)
        panels[when].set(xticks=[], yticks=[], title=f"{when} whitening")
    _plot_spectra(panels["spectrum"], arrays)
    return [
        ReportFigure(
            name="whitening",
            title="What whitening does",
            caption=(
                "Above, the first picture; below, the mean amplitude of all pictures by frequency, "
                "each curve relative to its middle. In photographs it falls about as 1/f, so that "
                "neighboring pixels are nearly alike. The filter rises as f and so makes the "
                "amplitudes alike, up to where its cut-off takes the highest frequencies away; "
                "edges are what stays."
            ),
            alt="A picture before and after whitening, and the amplitude spectra of both.",
            figure=figure,
        )
    ]


def _plot_spectra(axes: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    frequency = arrays["frequency"].astype(float)
    middle = int(np.argmin(np.abs(np.log(frequency / math.sqrt(frequency[0] * frequency[-1])))))
    guide = frequency[middle] / frequency
    axes.loglog(frequency, guide, color=style.MUTED, linestyle="dotted", linewidth=1, label="1/f")
    for when, color in (("before", style.BLUE), ("after", style.VERMILION)):
        amplitude = arrays[f"amplitude_{when}"]
        axes.loglog(frequency, amplitude / amplitude[middle], color=color, label=when)
    axes.set(xlabel="frequency [cycles per picture]", ylabel="relative amplitude")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend()


def whole_sheet(sheet: np.ndarray) -> Figure:
    """Returns a figure that is nothing but this sheet."""
    height, width = sheet.shape[:2]
    figure = style.new_figure(style.WIDTH * height / width)
    figure.set_layout_engine("none")
    _show(figure.add_axes((0, 0, 1, 1)), sheet)
    return figure


def _columns(rows: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(rows.values())))


def _show(axes: Axes, sheet: np.ndarray) -> None:
    style.frame_only(axes)
    axes.set(xticks=[], yticks=[])
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, aspect="equal")
