"""The section of worked problems shows errors once, and what older folders hold as well."""

from jaxlabs.report import problem_tables

ROW = {"theme": "sums", "ours": 2.0, "exact": 2.0, "difference": 0.0}
RIGHT = ROW | {"problem": "1 + 1", "reference": None, "reference_from": "", "erratum": ""}
WRONG = RIGHT | {"reference": 2.5, "reference_from": "printed", "erratum": "It is 2."}


def test_an_error_stands_once_with_the_first_number_that_it_makes_wrong():
    rows = [RIGHT | {"printed": ""}]
    rows += [WRONG | {"problem": name, "printed": "2.50"} for name in ("2 * 1", "2 / 1")]
    metrics = {"wrong_values": 3.0, "errors": 2.0}
    said = {"theme": "sums", "printed": "0 < 0.", "right": "0 = 0.", "error": True}
    page = problem_tables.problems(
        {"problems": rows, "statements": [said, said | {"error": False}], "metrics": metrics}
    )
    slips, _, everything = page.partition("All numbers")
    assert "2 errors make 3 numbers and statements wrong" in slips
    assert "sums: 2 * 1" in slips
    assert "2 / 1" not in slips
    assert slips.count("It is 2. 2 numbers are wrong by it.") == 1
    assert ">2.50<" in slips
    assert (slips.count(">error<"), slips.count(">right<")) == (1, 1)
    assert "0 &lt; 0." in slips
    assert everything.count('class="changed"') == 2


def test_a_summary_written_without_printed_digits_and_statements_is_shown():
    page = problem_tables.problems({"problems": [RIGHT, WRONG], "metrics": {"wrong_values": 1.0}})
    assert ">2.5000<" in page
    assert "numbers and statements" not in page
    assert "in words" not in page


def test_other_summaries_have_no_such_section():
    assert problem_tables.problems({"metrics": {"errors": 67.0}}) == ""
