"""Pictures of confusion matrices."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from jaxlabs.report import style
from jaxlabs.report.curves import words
from jaxlabs.report.picture import Picture


def confusion(arrays: Mapping[str, np.ndarray]) -> list[Picture]:
    """Draws who is taken for whom: one matrix for each split.

    Args:
      arrays: `counts [splits, true class, predicted class]`, `splits [splits]` and `labels
        [classes]`, both names.
    """
    counts, splits, labels = (arrays[name] for name in ("counts", "splits", "labels"))
    figure = style.new_figure(2.5 * -(-len(splits) // 2))
    panels = figure.subplots(-(-len(splits) // 2), 2, squeeze=False).ravel()
    for axes, split, matrix in zip(panels, splits, counts, strict=False):
        _draw(axes, matrix, labels.tolist())
        right, total = int(np.trace(matrix)), int(matrix.sum())
        axes.set_title(f"{words(str(split))}: {right} of {total}", pad=8)
    for axes in panels[len(splits) :]:
        axes.set_axis_off()
    told = "; ".join(
        f"{words(str(split))} {np.trace(matrix) / max(matrix.sum(), 1):.1%} right"
        for split, matrix in zip(splits, counts, strict=True)
    )
    return [
        Picture(
            name="confusion",
            title="Who is taken for whom",
            caption=(
                "Each row holds the sentences of one class, by the class that the model takes them "
                "for; the diagonal is right. Colours are shares of the row, numbers count."
            ),
            alt=f"Confusion matrices. {told}.",
            figure=figure,
        )
    ]


def _draw(axes: Axes, matrix: np.ndarray, labels: list[str]) -> None:
    style.frame_only(axes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = np.arange(len(labels))
    axes.set_xticks(places, labels, rotation=20)
    axes.set_yticks(places, labels)
    axes.set(xlabel="taken for", ylabel="is")
    for row, column in np.ndindex(*matrix.shape):
        colour = "white" if shares[row, column] > 0.6 else style.INK
        axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour)
