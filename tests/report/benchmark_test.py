"""The benchmark's pictures show what the arrays hold."""

import numpy as np
import pytest

from jaxlabs.report import benchmark, style


@pytest.fixture
def ratios():
    return {
        "group": np.array(["gpt_train, step"] * 3 + ["char_rnn, gru"] * 2),
        "framework": np.array(["jaxlabs", "pytorch", "pytorch", "jaxlabs", "pytorch"]),
        "precision": np.array(["bfloat16", "float32", "bfloat16", "float32", "float32"]),
        "ratio": np.array([0.5, 2.0, 1.0, 1.5, 1.0]),
    }


def test_every_rival_has_a_dot_in_the_row_of_its_group(ratios):
    with style.mpl_style():
        (picture,) = benchmark.ratios(ratios)
    axes = picture.figure.axes[0]
    dots = {
        (x, y, line.get_markerfacecolor() != "none")
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert dots == {(0.5, 0, True), (2.0, 0, False), (1.0, 0, False), (1.5, 1, True), (1, 1, False)}
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "gpt_train, step",
        "char_rnn, gru",
    ]
    assert "In 1 of 2 rows ours is the fastest" in picture.caption


def test_lines_of_attention_are_ordered_by_length_and_told_apart():
    arrays = {
        "rival": np.array(["jaxlabs, window"] * 3 + ["pytorch eager, dense"]),
        "length": np.array([4096, 1024, 2048, 1024]),
        "seconds": np.array([0.4, 0.1, 0.2, 0.3]),
        "memory": np.array([4, 1, 2, 0]) * 2**20,
    }
    with style.mpl_style():
        (picture,) = benchmark.window_attention(arrays)
    upper, lower = picture.figure.axes
    ours, theirs = upper.lines
    assert (ours.get_label(), theirs.get_label()) == ("jaxlabs, window", "pytorch eager, dense")
    np.testing.assert_array_equal(ours.get_xdata(), [1024, 2048, 4096])
    np.testing.assert_array_equal(ours.get_ydata(), [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), [1, 2, 4])
    assert "From 2,048 to 4,096 tokens, our window form takes 2.0 times as long." in picture.caption
