"""Pictures of confusion matrices."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from jaxlabs.report import style
from jaxlabs.report.curves import humanize
from jaxlabs.report.figure import ReportFigure

MAX_SHOWN, COLUMNS = 36, 6
MAX_SIDE_BY_SIDE = 5
"""Classes of matrices that two of them fit beside each other."""


def confusion(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws who is taken for whom: one matrix for each split.

    Args:
      arrays: `counts [splits, true class, predicted class]`, `splits [splits]` and `labels
        [classes]`, both names.
    """
    counts, splits, labels = (arrays[name] for name in ("counts", "splits", "labels"))
    columns, height = (2, 2.5) if len(labels) <= MAX_SIDE_BY_SIDE else (1, 4.8)
    rows = -(-len(splits) // columns)
    figure = style.new_figure(height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, split, matrix in zip(panels, splits, counts, strict=False):
        _plot(axes, matrix, labels.tolist())
        right, total = int(np.trace(matrix)), int(matrix.sum())
        axes.set_title(f"{humanize(str(split))}: {right} of {total}", pad=8)
    for axes in panels[len(splits) :]:
        axes.set_axis_off()
    told = "; ".join(
        f"{humanize(str(split))} {np.trace(matrix) / max(matrix.sum(), 1):.1%} right"
        for split, matrix in zip(splits, counts, strict=True)
    )
    return [
        ReportFigure(
            name="confusion",
            title="Who is taken for whom",
            caption=(
                "Each row holds the examples of one class, by the class that the model takes them "
                "for; the diagonal is right. Colors are shares of the row, numbers count."
            ),
            alt=f"Confusion matrices. {told}.",
            figure=figure,
        )
    ]


def misclassified(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws pictures that are taken for another class, with both classes.

    Args:
      arrays: `images [shown, height, width(, channels)]` in [0, 1], `labels` and `taken [shown]`,
        both names, `errors` and `count`, how many there are in all.
    """
    shown = min(MAX_SHOWN, len(arrays["images"]))
    columns = min(COLUMNS, shown)
    rows = -(-shown // columns)
    height = 0.82 * arrays["images"].shape[1] / arrays["images"].shape[2] + 0.2
    figure = style.new_figure(rows * height)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    pictures = np.clip(np.asarray(arrays["images"], np.float64), 0, 1)
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    for axes, picture, label, taken in zip(
        panels[:shown], pictures, arrays["labels"], arrays["taken"], strict=False
    ):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{label} → {taken}", loc="center", pad=2, fontsize=9)
    errors, count = int(arrays["errors"]), int(arrays["count"])
    surest = f"; the {shown} surest errors are shown" if shown < errors else ""
    return [
        ReportFigure(
            name="misclassified",
            title="Taken for another class",
            caption=(
                f"{errors:,} of {count:,} test pictures are taken for another class{surest}. Above "
                "each stands what it is and what the model takes it for."
            ),
            alt=f"{shown} pictures that the model takes for another class.",
            figure=figure,
        )
    ]


def _plot(axes: Axes, matrix: np.ndarray, labels: list[str]) -> None:
    style.frame_only(axes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = np.arange(len(labels))
    axes.set_xticks(places, labels, rotation=20 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(places, labels)
    axes.set(xlabel="taken for", ylabel="is")
    many = len(labels) > MAX_SIDE_BY_SIDE
    for row, column in np.ndindex(*matrix.shape):
        if many and not matrix[row, column]:
            continue  # so many zeros would hide the rest
        color = "white" if shares[row, column] > 0.6 else style.INK
        axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=color)
