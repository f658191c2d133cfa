import numpy as np
import pytest

from jaxlabs.labs.sequence_patterns import plots as sequence_patterns
from jaxlabs.report import style

SOURCE, TARGET = ["the", "red", "moon"], ["la", "luna", "ruja"]


def texts_of(figure):
    return [(text.get_text(), text.get_color()) for axes in figure.axes for text in axes.texts]


def pattern(kind, predicted, right, backbone="gru", bidirectional=True):
    arrays = {"kind": kind, "backbone": backbone, "bidirectional": bidirectional}
    arrays |= {"source": SOURCE, "predicted": predicted, "target": right}
    arrays = {name: np.array(value) for name, value in arrays.items()}
    with style.mpl_style():
        item = sequence_patterns.pattern(arrays)
        assert style.png(item.figure).startswith(b"\x89PNG")
    return item


def test_decoder_inputs_are_its_outputs_and_errors_are_red():
    item = pattern("encoder_decoder", ["la", "luna", "rujo"], TARGET)
    texts = texts_of(item.figure)
    assert [t for t, _ in texts].count("<sos>") == 1
    assert ("luna", sequence_patterns.CORRECT) in texts
    assert ("rujo", sequence_patterns.WRONG) in texts
    assert ("rujo", style.MUTED) in texts
    assert [t for t, _ in texts].count("GRU") == 4 + 4
    assert "target “la luna ruja”" in item.alt


@pytest.mark.parametrize(("backbone", "cells"), [("lstm", 4), ("transformer", 0)])
def test_many_to_one_has_one_output(backbone, cells):
    item = pattern("many_to_one", ["positive"], ["positive"], backbone, bidirectional=False)
    texts = texts_of(item.figure)
    assert ("positive", sequence_patterns.CORRECT) in texts
    assert [t for t, _ in texts].count(backbone.upper()) == cells
    wrong = texts_of(pattern("many_to_one", ["negative"], ["positive"]).figure)
    assert ("negative (target: positive)", sequence_patterns.WRONG) in wrong


def test_aligned_has_one_output_per_token():
    texts = texts_of(pattern("aligned", ["O", "O", "B-LOC"], ["O", "O", "B-PER"]).figure)
    assert ("B-LOC", sequence_patterns.WRONG) in texts


def test_alignment_labels_source_and_target():
    arrays = {"maps": np.full((2, 3, 3), 1 / 3), "source": np.array(SOURCE)}
    with style.mpl_style():
        item = sequence_patterns.alignment(arrays | {"target": np.array(TARGET)})
    panels = item.figure.axes[:2]
    for axes in panels:
        assert [label.get_text() for label in axes.get_xticklabels()] == SOURCE
        assert [label.get_text() for label in axes.get_yticklabels()] == TARGET


def test_wrong_tags_are_shown_with_the_gold_tag():
    words = np.array([["we", "met", "paris", ""], ["paris", "sleeps", "here", "again"]])
    right = np.array([["O", "O", "B-PER", ""], ["B-PER", "O", "O", "O"]])
    predicted = np.array([["O", "O", "B-LOC", ""], ["B-PER", "O", "O", "O"]])
    arrays = {"words": words, "target": right, "predicted": predicted}
    with style.mpl_style():
        item = sequence_patterns.tagged_words(arrays | {"splits": np.array(["test", "long"])})
    texts = texts_of(item.figure)
    assert ("B-PER", sequence_patterns.WRONG) in texts
    assert sum(color == sequence_patterns.WRONG for _, color in texts) == 1
    assert "with 1 wrong tags" in item.alt
    assert [t for t, _ in texts if t.endswith(":")] == ["test:", "long:"]
