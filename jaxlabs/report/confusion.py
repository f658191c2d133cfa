"""Plots of confusion matrices and misclassified images."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.curves import humanize
from jaxlabs.report.figure import Arrays, Figure, report_figure
from jaxlabs.report.lines import write_values

MAX_SHOWN, COLUMNS = 36, 6
MAX_SIDE_BY_SIDE = 5
"""Classes up to which two matrices fit side by side."""


@report_figure("Confusion matrix", name="confusion")
def confusion(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots one confusion matrix for each split.

    `counts [splits, true class, predicted class]`; the names `splits [splits]` and `labels
    [classes]`.
    """
    counts, labels = arrays["counts"], arrays["labels"].tolist()
    splits = [humanize(split) for split in arrays["splits"].tolist()]
    columns, height = (2, 2.5) if len(labels) <= MAX_SIDE_BY_SIDE else (1, 4.8)
    rows = -(-len(splits) // columns)
    figure.set_figheight(height * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, split, matrix in zip(panels, splits, counts, strict=False):
        _plot(axes, matrix, labels)
        axes.set_title(f"{split}: {np.trace(matrix)} of {matrix.sum()}", pad=8)
    for axes in panels[len(splits) :]:
        axes.set_axis_off()
    accuracies = "; ".join(
        f"{split} {np.trace(matrix) / max(matrix.sum(), 1):.1%} correct"
        for split, matrix in zip(splits, counts, strict=True)
    )
    return (
        "Rows: true class; columns: predicted class; the diagonal is correct. Numbers are "
        "counts; colors are normalized by row. Titles: correct predictions of the total.",
        f"Confusion matrices. {accuracies}.",
    )


@report_figure("Misclassified images")
def misclassified(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots misclassified images with their true and predicted classes.

    `images [shown, height, width(, channels)]` in [0, 1], `labels` and `predicted [shown]` (names
    of the true and predicted classes), and the totals `errors` and `count`.
    """
    shown = min(MAX_SHOWN, len(arrays["images"]))
    columns = min(COLUMNS, shown)
    rows = -(-shown // columns)
    figure.set_figheight(
        rows * (0.82 * arrays["images"].shape[1] / arrays["images"].shape[2] + 0.2)
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    pixels = np.clip(np.asarray(arrays["images"], np.float64), 0, 1)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    for axes in panels:
        axes.set_axis_off()
    for axes, image, *classes in zip(
        panels[:shown], pixels, arrays["labels"], arrays["predicted"], strict=False
    ):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(" → ".join(classes), loc="center", pad=2, fontsize=9)
    errors, count = int(arrays["errors"]), int(arrays["count"])
    selection = f" The {shown} most confident errors are shown." if shown < errors else ""
    return (
        f"{errors:,} of {count:,} test images are misclassified.{selection} Titles: true "
        "class → predicted class.",
        f"{shown} misclassified images.",
    )


def _plot(axes, matrix, labels):
    style.frame_only(axes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = np.arange(len(labels))
    axes.set_xticks(positions, labels, rotation=20 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(positions, labels)
    axes.set(xlabel="predicted", ylabel="true")
    # Zeros would clutter a large matrix.
    shown = (matrix > 0) | (len(labels) <= MAX_SIDE_BY_SIDE)
    write_values(axes, np.where(shown, matrix.astype(str), ""), shares > 0.6)
