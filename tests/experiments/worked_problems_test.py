"""The command of the worked problems prints, stores, tabulates and plots every value.

It runs inside the suite `reproduce`, which is tested too.
"""

import pytest

from jaxlabs.labs.worked_problems.lab import STUDY
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, reproduce

FIGURES = {"worked_scale", "worked_ravine", "worked_batch_norm", "worked_temperature"}


@pytest.fixture(scope="module")
def collected(quickly_compiled, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "all")
    flags = ["--labs=worked_problems", "--platform=cpu", f"--workdir={folder.path}"]
    assert cli.run(reproduce.suite({"worked_problems": STUDY}), flags) == 0
    return folder


@pytest.fixture(scope="module")
def measured(collected):
    return RunFolder(collected.runs / "worked_problems" / "seed=0")


def test_suite_writes_page_and_table(collected):
    text = (collected.path / "results.md").read_text()
    assert "| `worked_problems`, quick | largest relative difference | — |" in text
    assert "jaxlabs worked_problems --preset=quick --platform=cpu --seed=0" in text
    assert "worked_problems, quick" in collected.report.read_text()


def test_summary_has_an_entry_for_every_value(measured):
    summary = measured.read_summary()
    keys = {"theme", "problem", "reference", "reference_from", "printed", "ours", "exact"}
    keys |= {"difference", "erratum"}
    assert all(set(row) == keys for row in summary["problems"])
    assert summary["metrics"]["values"] == len(summary["problems"])
    assert summary["metrics"]["largest_relative_difference"] < 1e-7
    names = [(row["theme"], row["problem"]) for row in summary["problems"]]
    assert len(set(names)) == len(names)


def test_page_shows_the_errata_and_every_value(measured):
    assert {path.stem for path in measured.figures.iterdir()} == FIGURES
    page = measured.report.read_text()
    section = page.partition('<section id="problems">')[2].partition("</section>")[0]
    errata, _, everything = section.partition("All values")
    assert "18 errors make 50 values and statements wrong" in errata
    assert "softmax of [3, 6, 9] [2]" in errata
    assert errata.count("keeps the sum over i of the loss") == 1
    assert "Affects 9 values." in errata
    assert ">-0.9735<" in errata  # its digits are those printed
    assert "the first step overshoots the minimum" in errata
    assert errata.count(">error<") == 6
    assert "by its formula" in errata
    assert "<pre" not in page.partition('<section id="reproduce">')[0]  # the text says the same
    assert everything.count("<tbody>") == len(
        {r["theme"] for r in measured.read_summary()["problems"]}
    )
    assert everything.count("<tr>") + everything.count("<tr class") > 180


def test_text_has_the_table(measured):
    text = (measured.samples / "final.txt").read_text()
    assert "* The softmax of [3, 6, 9] is [0.0024, 0.0473, 0.9503]." in text
    assert "its normalized value is the printed 0.3922: a misprint." in text
    assert text.endswith("18 errors, 50 wrong values and statements (*) of the write-up")


def test_bad_flags_are_errors_of_one_line(tmp_path, capsys):
    assert cli.run(STUDY, [f"--workdir={tmp_path / 'run'}", "--preset=best"]) == 2
    assert "--preset: 'best' is not accepted; one of quick" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
