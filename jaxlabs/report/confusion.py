"""Plots of confusion matrices and misclassified images."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from jaxlabs.report import style
from jaxlabs.report.curves import humanize
from jaxlabs.report.figure import ReportFigure

MAX_SHOWN, COLUMNS = 36, 6
MAX_SIDE_BY_SIDE = 5
"""Classes up to which two matrices fit side by side."""


def confusion(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots one confusion matrix for each split.

    Args:
      arrays: `counts [splits, true class, predicted class]`, and the names `splits [splits]` and
        `labels [classes]`.
    """
    counts, splits, labels = (arrays[name] for name in ("counts", "splits", "labels"))
    columns, height = (2, 2.5) if len(labels) <= MAX_SIDE_BY_SIDE else (1, 4.8)
    rows = -(-len(splits) // columns)
    figure = style.new_figure(height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, split, matrix in zip(panels, splits, counts, strict=False):
        _plot(axes, matrix, labels.tolist())
        correct, total = int(np.trace(matrix)), int(matrix.sum())
        axes.set_title(f"{humanize(str(split))}: {correct} of {total}", pad=8)
    for axes in panels[len(splits) :]:
        axes.set_axis_off()
    accuracies = "; ".join(
        f"{humanize(str(split))} {np.trace(matrix) / max(matrix.sum(), 1):.1%} correct"
        for split, matrix in zip(splits, counts, strict=True)
    )
    return ReportFigure(
        name="confusion",
        title="Confusion matrix",
        caption=(
            "Rows: true class; columns: predicted class; the diagonal is correct. Numbers are "
            "counts; colors are normalized by row. Titles: correct predictions of the total."
        ),
        alt=f"Confusion matrices. {accuracies}.",
        figure=figure,
    )


def misclassified(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots misclassified images with their true and predicted classes.

    Args:
      arrays: `images [shown, height, width(, channels)]` in [0, 1], `labels` and `predicted
        [shown]` (names of the true and predicted classes), and the totals `errors` and `count`.
    """
    shown = min(MAX_SHOWN, len(arrays["images"]))
    columns = min(COLUMNS, shown)
    rows = -(-shown // columns)
    height = 0.82 * arrays["images"].shape[1] / arrays["images"].shape[2] + 0.2
    figure = style.new_figure(rows * height)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    pixels = np.clip(np.asarray(arrays["images"], np.float64), 0, 1)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    for axes, image, label, predicted in zip(
        panels[:shown], pixels, arrays["labels"], arrays["predicted"], strict=False
    ):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{label} → {predicted}", loc="center", pad=2, fontsize=9)
    errors, count = int(arrays["errors"]), int(arrays["count"])
    selection = f" The {shown} most confident errors are shown." if shown < errors else ""
    return ReportFigure(
        name="misclassified",
        title="Misclassified images",
        caption=(
            f"{errors:,} of {count:,} test images are misclassified.{selection} Titles: true "
            "class → predicted class."
        ),
        alt=f"{shown} misclassified images.",
        figure=figure,
    )


def _plot(axes: Axes, matrix: np.ndarray, labels: list[str]) -> None:
    style.frame_only(axes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = np.arange(len(labels))
    axes.set_xticks(positions, labels, rotation=20 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(positions, labels)
    axes.set(xlabel="predicted", ylabel="true")
    many = len(labels) > MAX_SIDE_BY_SIDE
    for row, column in np.ndindex(*matrix.shape):
        if many and not matrix[row, column]:
            continue  # zeros would clutter a large matrix
        color = "white" if shares[row, column] > 0.6 else style.INK
        axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=color)
