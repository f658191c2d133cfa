"""Pictures of attention and positions show the very numbers that they are given."""

import numpy as np
import pytest

from jaxlabs.report import maps, style


@pytest.fixture(autouse=True)
def in_house_style():
    with style.house_style():
        yield


def attention_of(layers=2, heads=3, time=4, labels=None):
    rng = np.random.default_rng(0)
    weights = np.tril(rng.random((layers, heads, time, time)) + 0.1)
    weights /= weights.sum(axis=-1, keepdims=True)
    labels = np.array(labels or list("abcd")[:time])
    return {"maps": weights, "labels": labels}


def images(figure):
    # The colour bar has axes of its own, without an image.
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_grid_shows_every_head_row_by_row():
    arrays = attention_of()
    shown = images(maps.attention(arrays)[0].figure)
    expected = arrays["maps"].reshape(6, 4, 4)
    np.testing.assert_array_equal(np.ma.filled(np.ma.stack(shown), 0), expected)


def test_exact_zeros_are_masked_and_nothing_else_is():
    shown = images(maps.attention(attention_of())[0].figure)[0]
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~np.tri(4, dtype=bool))


def test_close_up_takes_the_sharpest_head_of_the_first_and_the_last_layer():
    arrays = attention_of(layers=3, heads=2)
    arrays["maps"][0, 1] = np.eye(4)
    arrays["maps"][2, 0] = np.eye(4)
    figure = maps.attention(arrays)[1].figure
    titles = [axes.get_title("left") for axes in figure.axes if axes.images]
    assert titles == ["layer 1, head 2", "layer 3, head 1"]


def test_model_of_one_layer_and_one_head_is_drawn_once():
    close_up = maps.attention(attention_of(layers=1, heads=1))[1]
    assert close_up.title == "One head from near"
    assert len(images(close_up.figure)) == 1


def test_close_up_makes_white_space_visible_and_prints_dollars_as_they_are():
    arrays = attention_of(labels=[" ", "\n", "$", "$"])
    axes = maps.attention(arrays)[1].figure.axes[0]
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["␣", "↵", "$", "$"]
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())


def test_close_up_shows_no_more_than_a_phone_can():
    arrays = attention_of(time=40, labels=["x"] * 40)
    axes = maps.attention(arrays)[1].figure.axes[0]
    assert len(axes.get_xticklabels()) == maps.LABELLED
    assert axes.images[0].get_array().shape == (maps.LABELLED, maps.LABELLED)


def test_characters_that_the_font_lacks_are_no_error():
    for picture in maps.attention(attention_of(labels=["漢", "字", "a", "b"])):
        assert style.png(picture.figure).startswith(b"\x89PNG")


def test_position_table_shows_even_and_odd_channels_apart():
    table = np.random.default_rng(0).normal(size=(5, 6))
    (picture,) = maps.positions({"table": table})
    even, odd = images(picture.figure)
    np.testing.assert_array_equal(even, table[:, 0::2].T)
    np.testing.assert_array_equal(odd, table[:, 1::2].T)


def test_likeness_is_the_cosine_with_the_middle_position():
    table = np.random.default_rng(0).normal(size=(5, 6))
    (picture,) = maps.positions({"table": table})
    (likeness,) = [axes for axes in picture.figure.axes if axes.get_ylabel() == "cosine"]
    expected = [row @ table[2] / np.linalg.norm(row) / np.linalg.norm(table[2]) for row in table]
    np.testing.assert_allclose(likeness.get_lines()[0].get_ydata(), expected)


def test_table_of_zeros_is_drawn():
    (picture,) = maps.positions({"table": np.zeros((4, 4))})
    assert style.png(picture.figure).startswith(b"\x89PNG")
