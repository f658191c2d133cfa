"""Tests of jaxlabs/benchmark/plots.py: figures show their arrays."""

import numpy as np
import pytest

from jaxlabs.benchmark import plots as benchmark
from jaxlabs.report import style


@pytest.fixture
def ratios():
    return {
        "group": np.array(["gpt_train, step"] * 3 + ["char_rnn, gru"] * 2),
        "framework": np.array(["jaxlabs", "pytorch", "pytorch", "jaxlabs", "pytorch"]),
        "precision": np.array(["bfloat16", "float32", "bfloat16", "float32", "float32"]),
        "ratio": np.array([0.5, 2.0, 1.0, 1.5, 1.0]),
    }


def test_every_case_has_a_marker_in_the_row_of_its_group(ratios):
    with style.mpl_style():
        item = benchmark.ratios(ratios)
    axes = item.figure.axes[0]
    markers = {
        (x, y, line.get_markerfacecolor() != "none")
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert markers == {
        (0.5, 0, True),
        (2.0, 0, False),
        (1.0, 0, False),
        (1.5, 1, True),
        (1, 1, False),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "gpt_train, step",
        "char_rnn, gru",
    ]
    assert "Ours is the fastest in 1 of 2 rows" in item.caption


def test_attention_lines_are_sorted_by_length_and_labeled():
    arrays = {
        "case": np.array(["jaxlabs, window"] * 3 + ["pytorch eager, full_causal"]),
        "length": np.array([4096, 1024, 2048, 1024]),
        "seconds": np.array([0.4, 0.1, 0.2, 0.3]),
        "memory": np.array([4, 1, 2, 0]) * 2**20,
    }
    with style.mpl_style():
        item = benchmark.window_attention(arrays)
    upper, lower = item.figure.axes
    ours, theirs = upper.lines
    labels = [line.get_label() for line in (ours, theirs)]
    assert labels == ["jaxlabs, window", "pytorch eager, full_causal"]
    np.testing.assert_array_equal(ours.get_xdata(), [1024, 2048, 4096])
    np.testing.assert_array_equal(ours.get_ydata(), [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), [1, 2, 4])
    assert (
        "From 2,048 to 4,096 tokens the time of our window attention grows 2.0-fold."
        in item.caption
    )
