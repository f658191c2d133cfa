import numpy as np
import pytest

from jaxlabs.report import sequence_patterns, style

SOURCE, TARGET = ["the", "red", "moon"], ["la", "luna", "ruja"]


def texts_of(figure):
    return [(text.get_text(), text.get_color()) for axes in figure.axes for text in axes.texts]


def pattern(kind, predicted, right, backbone="gru", bidirectional=True):
    arrays = {"kind": kind, "backbone": backbone, "bidirectional": bidirectional}
    arrays |= {"source": SOURCE, "predicted": predicted, "target": right}
    arrays = {name: np.array(value) for name, value in arrays.items()}
    with style.mpl_style():
        (picture,) = sequence_patterns.pattern(arrays)
        assert style.png(picture.figure).startswith(b"\x89PNG")
    return picture


def test_translation_is_fed_its_own_words_and_errors_are_red():
    picture = pattern("encoder_decoder", ["la", "luna", "rujo"], TARGET)
    texts = texts_of(picture.figure)
    assert [t for t, _ in texts].count("<sos>") == 1
    assert ("luna", sequence_patterns.RIGHT) in texts
    assert ("rujo", sequence_patterns.WRONG) in texts
    assert ("rujo", style.MUTED) in texts
    assert [t for t, _ in texts].count("GRU") == 4 + 4
    assert "and should say: la luna ruja" in picture.alt


@pytest.mark.parametrize(("backbone", "cells"), [("lstm", 4), ("transformer", 0)])
def test_one_answer_is_read_off_at_the_end(backbone, cells):
    picture = pattern("many_to_one", ["positive"], ["positive"], backbone, bidirectional=False)
    texts = texts_of(picture.figure)
    assert ("positive", sequence_patterns.RIGHT) in texts
    assert [t for t, _ in texts].count(backbone.upper()) == cells
    wrong = texts_of(pattern("many_to_one", ["negative"], ["positive"]).figure)
    assert ("negative (right: positive)", sequence_patterns.WRONG) in wrong


def test_every_word_gets_its_tag():
    texts = texts_of(pattern("aligned", ["O", "O", "B-LOC"], ["O", "O", "B-PER"]).figure)
    assert ("B-LOC", sequence_patterns.WRONG) in texts


def test_alignment_has_the_words_of_both_sides():
    arrays = {"maps": np.full((2, 3, 3), 1 / 3), "source": np.array(SOURCE)}
    with style.mpl_style():
        (picture,) = sequence_patterns.alignment(arrays | {"target": np.array(TARGET)})
    panels = picture.figure.axes[:2]
    for axes in panels:
        assert [label.get_text() for label in axes.get_xticklabels()] == SOURCE
        assert [label.get_text() for label in axes.get_yticklabels()] == TARGET


def test_wrong_tags_are_underlined_with_the_right_one_below():
    words = np.array([["we", "met", "paris", ""], ["paris", "sleeps", "here", "again"]])
    right = np.array([["O", "O", "B-PER", ""], ["B-PER", "O", "O", "O"]])
    predicted = np.array([["O", "O", "B-LOC", ""], ["B-PER", "O", "O", "O"]])
    arrays = {"words": words, "target": right, "predicted": predicted}
    with style.mpl_style():
        (picture,) = sequence_patterns.tagged_words(
            arrays | {"splits": np.array(["test", "long"])}
        )
    texts = texts_of(picture.figure)
    assert ("B-PER", sequence_patterns.WRONG) in texts
    assert sum(color == sequence_patterns.WRONG for _, color in texts) == 1
    assert "1 words of them tagged wrongly" in picture.alt
    assert [t for t, _ in texts if t.endswith(":")] == ["test:", "longer:"]
