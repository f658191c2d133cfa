"""Tests of jaxlabs/report/figure.py: a plot function from one that plots into a figure."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import report_figure


@report_figure("Weights", 2.5)
def weights(figure, arrays):
    """Bars of the weights.

    The arrays have `weights [units]`.
    """
    figure.subplots().bar(range(len(arrays["weights"])), arrays["weights"])
    return f"{len(arrays['weights'])} weights."


def test_alt_text_is_the_first_sentence_of_the_docstring_and_the_name_that_of_the_function():
    with style.mpl_style():
        item = weights({"weights": np.ones(3)})
    assert (item.name, item.title, item.caption) == ("weights", "Weights", "3 weights.")
    assert item.alt == "Bars of the weights."
    assert tuple(item.figure.get_size_inches()) == (style.WIDTH, 2.5)
    assert len(item.figure.axes[0].patches) == 3


def test_name_and_alt_text_may_be_given_and_alt_text_returned():
    given = report_figure("Loss", name="loss", alt="A curve.")(lambda figure: "Caption.")
    returned = report_figure("Loss", name="loss")(lambda figure, alt: ("Caption.", alt))
    with style.mpl_style():
        assert (given().name, given().alt) == ("loss", "A curve.")
        assert (returned("Two.").caption, returned("Two.").alt) == ("Caption.", "Two.")


def test_nothing_to_plot_is_no_figure():
    assert report_figure("Loss", name="loss")(lambda figure: None)() is None
