"""Rows of a check, and what they show."""

from jaxlabs.runner.check_result import FAIL, PASS, SKIP, CheckResult, Row, make_row


def test_exception_of_a_lab_is_the_line_of_its_property():
    def raises():
        raise ValueError("shapes\ndiffer")

    assert make_row("sampler", raises) == ("sampler", FAIL, "ValueError: shapes differ")


def test_result_says_whether_it_passed_and_shows_itself():
    rows = Row("sampler", PASS, "one"), Row("data parallelism", SKIP, "a<b")
    result = CheckResult(rows)
    assert result.passed
    assert repr(result).splitlines() == [str(row) for row in rows]
    assert "a&lt;b" in result._repr_html_()
    assert not CheckResult((*rows, Row("compiles once", FAIL, "no"))).passed
