"""Image grids: samples, reconstructions, filters, and the effect of whitening."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure

# Limits that keep the images of a grid large enough.
MAX_SAMPLES, MAX_COLUMNS, MAX_RECONSTRUCTIONS, MAX_STEPS = 100, 10, 20, 12
WHITE, GAP = 1.0, 1


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tiles images of one size in row-major order, with a white gap of one pixel.

    Args:
      images: [count, height, width] or [count, height, width, 1 or 3], values in [0, 1];
        values outside are clipped.
      columns: images per row; None makes a square.

    Returns:
      `[height, width]`, or `[height, width, 3]` for color images.
    """
    images = np.clip(np.asarray(images, np.float64), 0, 1)
    count, height, width = images.shape[:3]
    channels = images.shape[3] if images.ndim == 4 and images.shape[3] > 1 else 1
    images = images.reshape(count, height, width, channels)
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    down, right = height + GAP, width + GAP
    sheet = np.full((rows * down - GAP, columns * right - GAP, channels), WHITE)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * right
        sheet[top : top + height, left : left + width] = image
    return sheet if channels > 1 else sheet[..., 0]


def labeled_rows(blocks: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """Plots blocks of labeled rows of images.

    Args:
      blocks: each a mapping from label to `[columns, height, width(, channels)]` in [0, 1]; all
        rows have one shape.
    """
    longest = max(len(name) for rows in blocks for name in rows)
    left = 0.15 + 0.075 * longest  # inches, as all lengths here
    width, apart = style.WIDTH - left, 0.15
    sheets = [tile(np.concatenate(list(rows.values())), _columns(rows)) for rows in blocks]
    heights = [width * sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure = style.new_figure(sum(heights) + apart * (len(blocks) - 1))
    # Layout engines leave no space for labels beside axes of fixed aspect.
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
    """Plots samples of a trained model, `[count, height, width(, channels)]` in [0, 1]."""
    shown = images[:MAX_SAMPLES]
    return ReportFigure(
        name="final_samples",
        title="Samples of the trained model",
        caption=(
            f"The first {len(shown)} of {len(images)} samples, not cherry-picked."
            if len(shown) < len(images)
            else f"All {len(images)} samples, not cherry-picked."
        ),
        alt=f"{len(shown)} images sampled from the model.",
        figure=grid_figure(tile(shown)),
    )


def samples_during_training(images_by_step: Mapping[int, np.ndarray]) -> ReportFigure:
    """Plots the first samples at each step, one row per step, for at most MAX_STEPS steps."""
    steps = sorted(images_by_step)
    if len(steps) > MAX_STEPS:
        evenly = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
        steps = [steps[index] for index in evenly]
    columns = min(MAX_COLUMNS, *(len(images_by_step[step]) for step in steps))
    rows = {f"step {step:,}": images_by_step[step][:columns] for step in steps}
    return ReportFigure(
        name="samples_during_training",
        title="Samples during training",
        caption="Each row shows the first samples of the model at one training step.",
        alt=f"{columns} samples at each of {len(steps)} training steps.",
        figure=labeled_rows([rows]),
    )


def reconstructions(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots `inputs` above `outputs`, each `[count, height, width(, channels)]` in [0, 1].

    Every further array adds a row with its own name.
    """
    names = ["inputs", *(name for name in arrays if name != "inputs")]
    count = min(MAX_RECONSTRUCTIONS, *(len(arrays[name]) for name in names))
    columns = min(count, MAX_COLUMNS)
    count -= count % columns  # full rows only
    blocks = [
        {name.replace("_", " "): arrays[name][start : start + columns] for name in names}
        for start in range(0, count, columns)
    ]
    return ReportFigure(
        name="reconstructions",
        title="Reconstructions",
        caption="Each input image above its reconstruction.",
        alt=f"{count} images, each above its reconstruction.",
        figure=labeled_rows(blocks),
    )


def filters(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots `filters [count, height, width(, 3)]`, each normalized by its largest weight."""
    weights = np.asarray(arrays["filters"], np.float64)
    rest = tuple(range(1, weights.ndim))
    largest = np.abs(weights).max(axis=rest, keepdims=True)
    shown = 0.5 + 0.5 * weights / np.maximum(largest, np.finfo(np.float64).tiny)
    return ReportFigure(
        name="filters",
        title="Filters",
        caption=(
            f"Input weights of {len(weights)} hidden units: white is positive, black negative, "
            "mid-gray zero. Each filter has its own scale."
        ),
        alt=f"A grid of {len(weights)} filters.",
        figure=grid_figure(tile(shown)),
    )


def whitening(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots one image before and after whitening, and the mean amplitude spectra.

    Arrays: `image_before` and `image_after [height, width]`; `frequency [bins]` in cycles per
    image; `amplitude_before` and `amplitude_after [bins]`.
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
    return ReportFigure(
        name="whitening",
        title="Whitening",
        caption=(
            "Top: the first image. Bottom: mean amplitude spectrum of all images, each curve "
            "relative to its middle. Natural images have a spectrum of about 1/f: neighboring "
            "pixels are strongly correlated. The whitening filter is proportional to f, which "
            "flattens the spectrum up to the low-pass cut-off; edges remain."
        ),
        alt="An image before and after whitening, and the amplitude spectra of both.",
        figure=figure,
    )


def _plot_spectra(axes: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    frequency = arrays["frequency"].astype(float)
    middle = int(np.argmin(np.abs(np.log(frequency / math.sqrt(frequency[0] * frequency[-1])))))
    guide = frequency[middle] / frequency
    axes.loglog(frequency, guide, color=style.MUTED, linestyle="dotted", linewidth=1, label="1/f")
    for when, color in (("before", style.BLUE), ("after", style.VERMILION)):
        amplitude = arrays[f"amplitude_{when}"]
        axes.loglog(frequency, amplitude / amplitude[middle], color=color, label=when)
    axes.set(xlabel="frequency [cycles per image]", ylabel="relative amplitude")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend()


def grid_figure(sheet: np.ndarray) -> Figure:
    """Returns a figure that shows only this image grid, without margins."""
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
