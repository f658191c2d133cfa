"""Tests of jaxlabs/report/text_output.py: printed arrays become tables, the text stays whole."""

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import text_output
from jaxlabs.report.page import write_report

PRINTED = """scores [2 x 2]
[[ 0.500 -1.000]
 [ 2.000  0.000]]

weights, by head [2 x 1 x 3]
[[[0.2 0.3 0.5]]

 [[0.1 0.0 0.9]]]

loss 2.5"""


def test_arrays_are_parsed_with_title_and_shape():
    (scores, values), (weights, heads) = text_output.arrays(PRINTED)
    assert (scores, weights) == ("scores", "weights, by head")
    np.testing.assert_array_equal(values, [[0.5, -1], [2, 0]])
    np.testing.assert_array_equal(heads, [[[0.2, 0.3, 0.5]], [[0.1, 0, 0.9]]])


@pytest.mark.parametrize("text", ["a [2 x 2]\n[[1 2]\n [3 4", "a [2 x 2]\nno array", "a [9 x 9]"])
def test_incomplete_arrays_are_ignored_or_parsed(text):
    assert len(list(text_output.arrays(text))) <= 1


def test_every_matrix_is_a_table_and_the_text_is_collapsed():
    tables, details = text_output.text_output(PRINTED)
    assert tables.count("<table>") == 3
    assert "<caption>weights, by head [2]</caption>" in tables
    assert '<td style="background: rgba(0, 100, 163, 0.55)">2.00</td>' in tables
    assert details.startswith("<details")
    assert "Full text (10 lines)" in details
    assert '<pre class="wide"' in details
    assert PRINTED in details


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("ROMEO:\nWhat is the matter?", False),
        ("def f(x):\n    return x  # twice", True),
        ("| a | b |", True),
        ("name   value", True),
        ("", False),
    ],
)
def test_text_with_aligned_columns_is_recognized(text, columns):
    assert text_output.has_columns(text) == columns


def test_matrices_of_a_study_are_shown_on_its_page(fresh_run):
    (fresh_run.samples / "final.txt").write_text(PRINTED)
    page = write_report(fresh_run, LAB).read_text()
    assert page.index("Text output") < page.index("<caption>scores</caption>")
    assert page.index("<caption>scores</caption>") < page.index("Full text")


def test_sample_of_a_trained_model_is_not_collapsed(short_run):
    (short_run.samples / "final.txt").write_text("return x  # twice")
    assert (
        '<pre aria-label="Sample of the trained model">' in write_report(short_run, LAB).read_text()
    )
