"""Tests of jaxlabs/report/results.py: the table of all labs and its footnotes."""

from jaxlabs.report import results


def row(**changes):
    made_up = {"lab": "gpt", "preset": "quick", "preset_note": "", "quantity": "loss", "unit": ""}
    made_up |= {"published": 2.0, "ours": 1.0, "std": None, "ratio": 0.5, "seeds": 1}
    made_up |= {"seconds": 61.0, "command": "run", "comparable": True, "not_comparable_reason": ""}
    return made_up | changes


def summary(*rows, **changes):
    made_up = {"preset": "quick", "dates": ["2026-01-02"], "results": rows, "failures": []}
    return made_up | {"machines": [{"machine": "an abacus", "labs": ["gpt"]}]} | changes


def cells(text):
    return [line.split(" | ")[1:-1] for line in text.splitlines() if line.startswith("| `")]


def test_rows_have_quantity_published_ours_ratio_seeds_and_time():
    text = results.markdown(summary(row(), row(std=0.25)))
    assert cells(text)[0] == ["loss", "2", "1", "0.500", "1", "1 min 01 s"]
    assert cells(text)[1][2] == "1 ± 0.2500"
    assert "- Run on 2026-01-02 (UTC).\n- an abacus.\n" in text


def test_reasons_are_numbered_once_for_each_lab():
    unlike = {"comparable": False, "not_comparable_reason": "other data"}
    rows = [row(**unlike), row(), row(**unlike), row(**unlike, lab="ddpm")]
    text = results.markdown(summary(*rows))
    assert [one[1] for one in cells(text)] == ["2 [1]", "2", "2 [1]", "2 [2]"]
    assert text.endswith(
        "- [1] gpt: not comparable: other data\n- [2] ddpm: not comparable: other data\n"
    )


def test_pipes_are_escaped_and_missing_values_are_dashes():
    text = results.markdown(summary(row(quantity="a|b", ours=None, ratio=None, published=None)))
    assert cells(text)[0][:4] == ["a\\|b", "—", "—", "—"]


def test_several_machines_are_listed_with_their_labs():
    machines = [{"machine": name, "labs": [name[0]]} for name in ("abacus", "beads")]
    text = results.markdown(summary(row(), machines=machines))
    assert "- a: abacus.\n- b: beads.\n" in text


def test_section_shows_each_command_once_and_escaped():
    page = results.section(summary(row(command="a<b"), row(command="a<b", quantity="x<y")))
    assert page.count("a&lt;b") == 1
    assert "x&lt;y" in page
    assert results.section({}) == ""
