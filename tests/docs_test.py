"""Tests of the documentation: its examples, and its table of results.

`.ci/run` builds the site; these tests need no Sphinx.
"""

import doctest
import importlib
import importlib.util
import json
import pkgutil
import re
from pathlib import Path

import pytest

import jaxlabs

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = sorted(page.stem for page in (DOCS / "reference").glob("*.md"))


@pytest.mark.parametrize("package", PACKAGES)
def test_docstring_examples_pass(package):
    path = [str(Path(jaxlabs.__file__).parent / package)]
    names = [found.name for found in pkgutil.walk_packages(path, f"jaxlabs.{package}.")]
    names = names or [f"jaxlabs.{package}"]
    for name in names:
        assert doctest.testmod(importlib.import_module(name)).failed == 0


def markdown(results):
    """Returns the tables of the results page."""
    spec = importlib.util.spec_from_file_location("results_table", DOCS / "results_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.markdown(results)


def test_results_table_has_every_row_once():
    results = json.loads((DOCS / "results.json").read_text())
    lines = markdown(results).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    labs = {row["lab"] for row in results["results"]}
    assert len(rows) == len(results["results"]) + len(labs)
    for row in results["results"]:
        assert any(row["metric"].replace("_", " ") in line for line in rows)
        assert any(line.endswith(f"| `{row['command']}` |") for line in rows)


def test_results_page_holds_the_table_of_results_json():
    results = json.loads((DOCS / "results.json").read_text())
    assert markdown(results) in (DOCS / "results.md").read_text()


def test_results_name_no_absolute_path():
    assert not re.findall(r"=/\S+", (DOCS / "results.json").read_text())


def test_quick_results_of_the_readme_are_those_of_the_results_page():
    readme = (DOCS.parent / "README.md").read_text()
    results = json.loads((DOCS / "results.json").read_text())["results"]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \| `(\w+)` \|$", readme, re.M)
    assert len(rows) > 5
    for lab, shown, command in rows:
        assert command == lab
        number = shown.strip("* %")
        scale, digits = (100 if "%" in shown else 1), len(number.partition(".")[2])
        values = [row["ours"] * scale for row in results if row["lab"] == lab]
        assert number in [f"{value:.{digits}f}" for value in values], lab


def test_results_table_has_reasons_and_failures():
    row = {"lab": "gpt", "metric": "a_loss", "quantity": "theirs", "unit": "nats", "seeds": 2}
    row |= {"published": 1.5, "ours": 2.0, "std": 0.25, "seconds": 90, "command": "a | b"}
    machine = {"machine": "a machine", "labs": ["gpt"]}
    results = {
        "dates": ["2026-01-01"],
        "machines": [machine],
        "results": [row | {"not_comparable_reason": "x"}],
    }
    text = markdown(results | {"failures": [{"run": "ddpm, seed 0", "reason": "no data"}]})
    assert "| `gpt` | a loss (nats) | 2 | 0.2500 | 2 | 1.5\\* | theirs |" in text
    assert "not comparable: x" in text
    assert "- Failed: ddpm, seed 0: no data" in text
    assert r"| `gpt` | 1 min 30 s | `a \| b` |" in text
