"""Tests of jaxlabs/report/confusion.py: matrices show their counts."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.confusion import confusion

COUNTS = np.array([[[8, 1, 1], [0, 5, 5], [2, 0, 0]], [[1, 0, 0], [0, 0, 0], [0, 3, 1]]])


def test_cells_show_counts_and_colors_are_normalized_by_row():
    arrays = {
        "counts": COUNTS,
        "splits": np.array(["test", "test_unseen"]),
        "labels": np.array(["A", "B", "C"]),
    }
    with style.mpl_style():
        item = confusion(arrays)
        style.png(item.figure)
    assert item.alt == "Confusion matrices. test 59.1% correct; test unseen 40.0% correct."
    panels = [axes for axes in item.figure.axes if axes.images]
    for axes, counts, title in zip(panels, COUNTS, ["13 of 22", "2 of 5"], strict=True):
        shown = {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in axes.texts}
        cells = [[int(shown[row, column].get_text()) for column in range(3)] for row in range(3)]
        np.testing.assert_array_equal(cells, counts)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        np.testing.assert_allclose(axes.images[0].get_array(), shares)
        assert axes.get_title("left").endswith(title)
        assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "B", "C"]
