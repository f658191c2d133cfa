"""Tests of jaxlabs/report/attention_plots.py: figures show their arrays."""

import numpy as np
import pytest

from jaxlabs.report import attention_plots, style


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def attention_of(layers=2, heads=3, time=4, labels=None):
    rng = np.random.default_rng(0)
    weights = np.tril(rng.random((layers, heads, time, time)) + 0.1)
    weights /= weights.sum(axis=-1, keepdims=True)
    labels = np.array(labels or list("abcd")[:time])
    return {"maps": weights, "labels": labels}


def images(figure):
    # The color bar has axes of its own, without an image.
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_grid_shows_every_head_in_row_major_order():
    arrays = attention_of()
    shown = images(attention_plots.attention(arrays)[0].figure)
    expected = arrays["maps"].reshape(6, 4, 4)
    np.testing.assert_array_equal(np.ma.filled(np.ma.stack(shown), 0), expected)


def test_only_exact_zeros_are_masked():
    shown = images(attention_plots.attention(attention_of())[0].figure)[0]
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~np.tri(4, dtype=bool))


def test_close_up_shows_the_lowest_entropy_head_of_first_and_last_layer():
    arrays = attention_of(layers=3, heads=2)
    arrays["maps"][0, 1] = np.eye(4)
    arrays["maps"][2, 0] = np.eye(4)
    figure = attention_plots.attention(arrays)[1].figure
    titles = [axes.get_title("left") for axes in figure.axes if axes.images]
    assert titles == ["layer 1, head 2", "layer 3, head 1"]


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_grid_labels_every_row_and_column_once():
    words = ["To", "be", "or", "not"]
    axes = [
        axes
        for axes in attention_plots.attention(attention_of(labels=words))[0].figure.axes
        if axes.images
    ]
    grid = np.array(axes).reshape(2, 3)
    assert [labels_of(one.yaxis) for one in grid[:, 0]] == [words, words]
    assert [labels_of(one.xaxis) for one in grid[0]] == [words, words, words]
    assert not any(labels_of(one.yaxis) for one in grid[:, 1:].ravel())
    assert not any(labels_of(one.xaxis) for one in grid[1])


@pytest.mark.parametrize(
    ("label", "heads", "time"), [("progress", 2, 32), ("x", 2, 48), ("x", 6, 48)]
)
def test_grid_labels_are_legible_and_do_not_overlap(label, heads, time):
    figure = attention_plots.attention(attention_of(1, heads, time, [label] * time))[0].figure
    axes = figure.axes[0]
    pixels = style.DOTS_PER_INCH / 72 * axes.get_yticklabels()[0].get_fontsize()
    rows = axes.get_position().height * figure.get_figheight() * style.DOTS_PER_INCH / time
    assert 9 <= pixels <= rows
    # The longest label stays between the name of its layer and its map.
    renderer = figure.canvas.get_renderer()
    (layer,) = [text for text in figure.texts if text.get_text() == "layer 1"]
    box = axes.get_yticklabels()[0].get_window_extent(renderer)
    assert layer.get_window_extent(renderer).x1 < box.x0 < box.x1 < axes.get_window_extent().x0


def test_several_sequences_are_plotted_and_the_longest_enlarged():
    sequences = {"a short": attention_of(time=3), "long": attention_of(time=4)}
    sequences["long"]["rollout"] = np.tile(np.eye(4), (2, 1, 1))
    arrays = {
        f"{name}/{kind}": array
        for name, kinds in sequences.items()
        for kind, array in kinds.items()
    }
    figures = {item.name: item for item in attention_plots.attention(arrays)}
    names = ["grid_a_short", "grid_long", "close_up", "rollout_long"]
    assert list(figures) == [f"attention_{name}" for name in names]
    assert figures["attention_grid_a_short"].title == "Attention maps of all heads: a short"
    shapes = [images(item.figure)[0].shape[0] for item in figures.values()]
    assert shapes == [3, 4, 4, 4]


def test_rollout_shows_the_last_layer():
    arrays = attention_of() | {"rollout": np.stack([np.eye(4), np.full((4, 4), 0.25)])}
    (shown,) = images(attention_plots.attention(arrays)[2].figure)
    np.testing.assert_array_equal(shown, np.full((4, 4), 0.25))


def test_single_head_is_enlarged_once():
    close_up = attention_plots.attention(attention_of(layers=1, heads=1))[1]
    assert close_up.title == "Sharpest head"
    assert len(images(close_up.figure)) == 1


def test_close_up_shows_whitespace_and_literal_dollars():
    arrays = attention_of(labels=[" $x$", "\n\n", "a\tb", "$"])
    axes = attention_plots.attention(arrays)[1].figure.axes[0]
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["␣$x$", "↵↵", "a⇥b", "$"]
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())


def test_close_up_limits_the_number_of_labels():
    arrays = attention_of(time=40, labels=["x"] * 40)
    axes = attention_plots.attention(arrays)[1].figure.axes[0]
    assert len(axes.get_xticklabels()) == attention_plots.MAX_LABELS
    assert axes.images[0].get_array().shape == (
        attention_plots.MAX_LABELS,
        attention_plots.MAX_LABELS,
    )


def test_missing_glyphs_are_no_error():
    for item in attention_plots.attention(attention_of(labels=["漢", "字", "a", "b"])):
        assert style.png(item.figure).startswith(b"\x89PNG")


def test_position_table_separates_even_and_odd_channels():
    table = np.random.default_rng(0).normal(size=(5, 6))
    item = attention_plots.positions({"table": table})
    even, odd = images(item.figure)
    np.testing.assert_array_equal(even, table[:, 0::2].T)
    np.testing.assert_array_equal(odd, table[:, 1::2].T)


def test_similarity_is_the_cosine_with_the_middle_position():
    table = np.random.default_rng(0).normal(size=(5, 6))
    item = attention_plots.positions({"table": table})
    (similarity,) = [axes for axes in item.figure.axes if axes.get_ylabel() == "cosine"]
    expected = [row @ table[2] / np.linalg.norm(row) / np.linalg.norm(table[2]) for row in table]
    np.testing.assert_allclose(similarity.get_lines()[0].get_ydata(), expected)


def test_zero_table_is_plotted():
    item = attention_plots.positions({"table": np.zeros((4, 4))})
    assert style.png(item.figure).startswith(b"\x89PNG")
