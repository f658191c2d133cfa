"""Tests of jaxlabs/report/lines.py: bands, reference lines and labeled ticks."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jaxlabs.report import lines, style


@pytest.fixture
def axes():
    with style.mpl_style():
        yield style.new_figure(2.0).subplots()


def test_band_has_a_line_between_its_edges_in_one_color(axes):
    x, middle = np.arange(3), np.array([1.0, 2.0, 3.0])
    lines.band(axes, x, middle - 0.5, middle, middle + 1, label="loss", **lines.LINES[1])
    (line,), (area,) = axes.lines, axes.collections
    np.testing.assert_array_equal(line.get_ydata(), middle)
    assert (line.get_label(), line.get_color()) == ("loss", style.VERMILION)
    corners = area.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0.5, 4.0)
    np.testing.assert_allclose(area.get_facecolor()[0, :3], to_rgb(line.get_color()))


@pytest.mark.parametrize(("end", "below"), [("left", False), ("right", True)])
def test_reference_is_labeled_at_one_end(axes, end, below):
    lines.reference(axes, 0.25, "chance", end=end, below=below)
    (text,) = axes.texts
    assert (text.get_text(), text.get_ha(), text.xy) == ("chance", end, (end == "right", 0.25))
    assert (text.xyann[1] < 0) == below
    assert list(axes.lines[0].get_ydata()) == [0.25, 0.25]


def test_reference_without_text_has_no_label(axes):
    lines.reference(axes, 1)
    assert not axes.texts


def test_only_the_given_ticks_are_labeled(axes):
    axes.set_xscale("log")
    axes.set_xlim(1, 100)
    lines.label_x(axes, [2, 20])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "20"]
    lines.label_x(axes, [2, 20], ["a", "b"])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert not len(axes.xaxis.get_minorticklocs())
