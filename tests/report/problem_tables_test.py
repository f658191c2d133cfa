"""Tests of jaxlabs/report/problem_tables.py."""

from jaxlabs.report import problem_tables

ROW = {"theme": "sums", "ours": 2.0, "exact": 2.0, "difference": 0.0}
RIGHT = ROW | {"problem": "1 + 1", "reference": None, "reference_from": "", "erratum": ""}
WRONG = RIGHT | {"reference": 2.5, "reference_from": "printed", "erratum": "It is 2."}


def test_each_erratum_is_listed_once_with_its_first_wrong_value():
    rows = [RIGHT | {"printed": ""}]
    rows += [WRONG | {"problem": name, "printed": "2.50"} for name in ("2 * 1", "2 / 1")]
    metrics = {"wrong_values_and_statements": 3.0, "errors": 2.0}
    statement = {"theme": "sums", "printed": "0 < 0.", "correct": "0 = 0.", "error": True}
    page = problem_tables.problems(
        {
            "problems": rows,
            "statements": [statement, statement | {"error": False}],
            "metrics": metrics,
        }
    )
    errata, _, everything = page.partition("All values")
    assert "2 errors make 3 values and statements wrong" in errata
    assert "sums: 2 * 1" in errata
    assert "2 / 1" not in errata
    assert errata.count("It is 2. Affects 2 values.") == 1
    assert ">2.50<" in errata
    assert (errata.count(">error<"), errata.count(">correct<")) == (1, 1)
    assert "0 &lt; 0." in errata
    assert everything.count('class="changed"') == 2


def test_summary_without_printed_digits_and_statements_is_shown():
    page = problem_tables.problems(
        {"problems": [RIGHT, WRONG], "metrics": {"wrong_values_and_statements": 1.0}}
    )
    assert ">2.5000<" in page
    assert "values and statements" not in page
    assert "in words" not in page


def test_other_summaries_have_no_problems_section():
    assert problem_tables.problems({"metrics": {"errors": 67.0}}) == ""
