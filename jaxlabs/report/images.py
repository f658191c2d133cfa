"""Image grids: samples, reconstructions, filters, and the effect of whitening."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, report_figure

# Limits that keep the images of a grid large enough.
MAX_SAMPLES, MAX_COLUMNS, MAX_RECONSTRUCTIONS, MAX_STEPS = 100, 10, 20, 12
WHITE, GAP = 1.0, 1


def tile(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tiles images of one size in row-major order, with a white gap of one pixel.

    Args:
      images: [count, height, width] or [count, height, width, 1 or 3] in [0, 1]; values outside are
        clipped.
      columns: images per row; None makes a square.

    Returns:
      `[height, width]`, or `[height, width, 3]` for color images.
    """
    images = np.clip(np.asarray(images, np.float64), 0, 1)
    count, height, width = images.shape[:3]
    images = images.reshape(count, height, width, -1)
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    margins = ((0, rows * columns - count), (0, GAP), (0, GAP), (0, 0))
    cells = np.pad(images, margins, constant_values=WHITE).reshape(
        rows, columns, height + GAP, width + GAP, -1
    )
    sheet = cells.swapaxes(1, 2).reshape(rows * (height + GAP), columns * (width + GAP), -1)
    sheet = sheet[:-GAP, :-GAP]
    return sheet if sheet.shape[-1] > 1 else sheet[..., 0]


def plot_grid(figure: Figure, images: np.ndarray) -> None:
    """Fills a figure with a square of images, see `tile`."""
    sheet = tile(images)
    figure.set_figheight(style.WIDTH * sheet.shape[0] / sheet.shape[1])
    figure.set_layout_engine("none")
    _show(figure.add_axes((0, 0, 1, 1)), sheet)


def plot_rows(figure: Figure, blocks: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Fills a figure with blocks of labeled rows of images.

    A block is a mapping from label to `[columns, height, width(, channels)]` in [0, 1]; all rows
    have one shape. The height of the figure is set.
    """
    longest = max(len(name) for rows in blocks for name in rows)
    left = 0.15 + 0.075 * longest  # inches, as all lengths here
    width, apart = style.WIDTH - left, 0.15
    sheets = [tile(np.concatenate([*rows.values()]), _columns(rows)) for rows in blocks]
    heights = [width * sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure.set_figheight(sum(heights) + apart * (len(blocks) - 1))
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


@report_figure("Samples of the trained model", name="final_samples")
def samples(figure: Figure, images: np.ndarray) -> tuple[str, str]:
    """Plots samples of a trained model, `[count, height, width(, channels)]` in [0, 1]."""
    shown = images[:MAX_SAMPLES]
    plot_grid(figure, shown)
    fewer = f"The first {len(shown)} of" if len(shown) < len(images) else "All"
    return (
        f"{fewer} {len(images)} samples, not cherry-picked.",
        f"{len(shown)} images sampled from the model.",
    )


@report_figure("Samples during training")
def samples_during_training(
    figure: Figure, images_by_step: Mapping[int, np.ndarray]
) -> tuple[str, str]:
    """Plots the first samples at each step, one row per step, for at most MAX_STEPS steps."""
    steps = sorted(images_by_step)
    if len(steps) > MAX_STEPS:
        evenly = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
        steps = [steps[index] for index in evenly]
    columns = min(MAX_COLUMNS, *(len(images_by_step[step]) for step in steps))
    plot_rows(figure, [{f"step {step:,}": images_by_step[step][:columns] for step in steps}])
    return (
        "Each row shows the first samples of the model at one training step.",
        f"{columns} samples at each of {len(steps)} training steps.",
    )


@report_figure("Reconstructions")
def reconstructions(figure: Figure, arrays: Arrays) -> tuple[str, str]:
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
    plot_rows(figure, blocks)
    caption = "Each input image above its reconstruction."
    return caption, f"{count} images, each above its reconstruction."


@report_figure("Filters")
def filters(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots `filters [count, height, width(, 3)]`, each normalized by its largest weight."""
    weights = np.asarray(arrays["filters"], np.float64)
    rest = tuple(range(1, weights.ndim))
    largest = np.abs(weights).max(axis=rest, keepdims=True)
    plot_grid(figure, 0.5 + 0.5 * weights / np.maximum(largest, np.finfo(np.float64).tiny))
    return (
        f"Input weights of {len(weights)} hidden units: white is positive, black negative, "
        "mid-gray zero. Each filter has its own scale.",
        f"A grid of {len(weights)} filters.",
    )


@report_figure("Whitening", 5.2)
def whitening(figure: Figure, arrays: Arrays) -> str:
    """An image before and after whitening, and the amplitude spectra of both.

    Arrays: `image_before` and `image_after [height, width]`; `frequency [bins]` in cycles per
    image; `amplitude_before` and `amplitude_after [bins]`.
    """
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
    axes, frequency = panels["spectrum"], arrays["frequency"].astype(float)
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
    return (
        "Top: the first image. Bottom: mean amplitude spectrum of all images, each curve "
        "relative to its middle. Natural images have a spectrum of about 1/f: neighboring "
        "pixels are strongly correlated. The whitening filter is proportional to f, which "
        "flattens the spectrum up to the low-pass cut-off; edges remain."
    )


def _columns(rows):
    return len(next(iter(rows.values())))


def _show(axes, sheet):
    style.frame_only(axes)
    axes.set(xticks=[], yticks=[])
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, aspect="equal")
