"""Comparisons of finished runs: verdicts equal tests of scipy, with a table and a page."""

import numpy as np
import pytest
import scipy.stats

import jaxlabs as jl
from jaxlabs import commands
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.verdict import seeds_needed


def test_decided_verdict_has_the_interval_of_the_paired_t_test(write_seeds):
    ours, theirs = (1.80, 1.82, 1.81, 1.79), (1.70, 1.71, 1.72, 1.70)
    names = write_seeds("a", ours) + write_seeds("b", theirs, learning_rate=0.01)
    found = jl.compare(names).bases[0].verdicts[0]
    interval = scipy.stats.ttest_rel(theirs, ours).confidence_interval()
    np.testing.assert_allclose([found.low, found.high], interval, rtol=1e-9)
    assert found.decided
    assert str(found) == (
        f"B is lower than A by 0.0975 (95% interval −{-interval.low:.4g} to"
        f" −{-interval.high:.4g}, 4 seeds)"
    )


def test_undecided_verdict_says_how_many_more_seeds(write_seeds):
    ours, theirs = (1.80, 1.82, 1.81), (1.78, 1.83, 1.79)
    found = (
        jl.compare(write_seeds("a", ours) + write_seeds("b", theirs, dropout=0.1))
        .bases[0]
        .verdicts[0]
    )
    needed = seeds_needed(np.subtract(theirs, ours)) - 3
    assert not found.decided
    assert str(found).startswith("undecided: B − A = −0.01 (95% interval −0.0")
    assert str(found).endswith(
        f"3 seeds); a difference of this size takes about {needed} more seeds (80% power)"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (
            (1.8,),
            (1.7,),
            "undecided with one common seed: B − A = −0.1; an interval takes at least 1 more seed"
            " of each",
        ),
        ((1.8, 1.7), (1.8, 1.7), "B and A are equal for every seed"),
        ((1.8, None), (1.8, 1.7), "undecided: a run of B or A has no finite value"),
    ],
)
def test_verdict_without_an_interval_says_why(write_seeds, ours, theirs, words):
    names = write_seeds("a", ours) + write_seeds("b", theirs, dropout=0.1)
    comparison = jl.compare(names, metric="held_out_loss")
    assert str(comparison.bases[0].verdicts[0]) == words


def test_training_loss_is_that_of_the_summary(write_seeds):
    names = write_seeds("a", (1.8, 1.9)) + write_seeds("b", (1.7, 1.75), dropout=0.1)
    for name in names:
        folder = RunFolder(name)
        summary = folder.read_summary()
        folder.write_summary(summary | {"metrics": summary["metrics"] | {"train_loss": 1.25}})
    bases = jl.compare(names, metric="train_loss").bases
    assert [basis.name for basis in bases] == ["at the end"]
    assert bases[0].statistics[0].values == (1.25, 1.25)


def test_statistics_of_a_group_are_typed_values_by_seed(write_seeds):
    names = write_seeds("a", (1.8, 1.9, 2.3)) + write_seeds("b", (1.7,), norm="layernorm")
    first, second = jl.compare(names).bases[0].statistics
    assert (first.seeds, first.values) == ((0, 1, 2), (1.8, 1.9, 2.3))
    np.testing.assert_allclose([first.mean, first.std], [2.0, np.std([1.8, 1.9, 2.3], ddof=1)])
    assert (str(first), str(second)) == ("2.0000 ± 0.26", "1.7000")
    assert (second.seeds, second.std) == ((0,), None)


def test_groups_without_a_common_seed_are_undecided(write_run):
    names = [write_run("a", seed=1), write_run("b", seed=2, dropout=0.1)]
    assert "undecided without a common seed of B and A" in str(jl.compare(names))


def test_equal_time_interpolates_the_slower_run(write_run):
    names = [write_run("fast", seconds=2.0), write_run("slow", seconds=5.0, num_layers=8)]
    comparison = jl.compare(names)
    at_steps, at_time = comparison.bases
    assert (at_steps.name, at_time.name) == ("at step 30", "at 2.0 s")
    means = [group.mean for group in at_time.statistics]
    np.testing.assert_allclose(means, [1.8, 2.5 + (2 - 5 / 3) / (5 / 3) * (2.1 - 2.5)])
    assert comparison.notes == [
        "at 2.0 s, B had taken 40% of its steps: a run that is planned for this time, with its"
        " learning rate, would do better"
    ]


def test_equal_steps_are_the_last_that_all_runs_evaluated(write_run):
    comparison = jl.compare([write_run("short", (3.0, 2.5, 2.1)), write_run("long", dropout=0.1)])
    assert comparison.bases[0].name == "at step 20"
    assert comparison.bases[0].verdicts[0].difference == 0


def test_runs_of_other_machines_are_not_compared_at_equal_time(write_run):
    names = [write_run("a"), write_run("b", dropout=0.1, config={"device": {"kind": "another"}})]
    comparison = jl.compare(names)
    assert [basis.name for basis in comparison.bases] == ["at step 30"]
    assert comparison.notes == [
        "the runs were made on different machines: no verdict at equal time"
    ]


def test_runs_with_other_evaluation_tokens_get_a_note(write_run):
    names = [write_run("a"), write_run("b", eval_tokens=100)]
    line = "--eval_tokens differs: the losses are of different windows of the text"
    assert jl.compare(names).notes == [line]
    names[0] = write_run("c", eval_tokens=100, dropout=0.1)
    assert jl.compare(names).notes == []


def test_runs_without_steps_have_no_verdict(write_run):
    comparison = jl.compare(
        [write_run("a", (3.0,), seconds=0.0), write_run("b", (3.0,), seconds=0.0, dropout=0.1)]
    )
    assert not comparison.bases
    assert comparison.notes == [
        "no evaluated step is common to all runs: no verdict at equal steps",
        "a run has not trained: no verdict at equal time",
    ]
    assert "a run has not trained" in comparison._repr_html_()


def test_metric_of_the_end_is_compared_at_the_end(write_run):
    comparison = jl.compare(
        [write_run("a"), write_run("b", dropout=0.1)], metric="sample_real_words"
    )
    assert [basis.name for basis in comparison.bases] == ["at the end"]
    assert "base64" not in comparison._repr_html_()  # it has no curve


def test_page_has_curves_against_steps_time_and_flops(write_seeds):
    names = write_seeds("a", (1.8, 1.9)) + write_seeds(
        "b", (1.7, 1.75), norm="layernorm", flops=2e6
    )
    page = jl.compare(names).write("page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png;base64,") == 1
    assert "against step, training time [s], training FLOPs" in page
    assert "norm=layernorm" in page
    assert "B is lower than A" in page or "undecided: B − A" in page
    assert "b-1" in page
    names += [write_seeds("c", (1.8,), dropout=0.3, flops=None)[0]]
    assert "training FLOPs, one color" not in jl.compare(names)._repr_html_()


def test_command_prints_the_table_and_writes_the_page(write_seeds, capsys, here):
    names = write_seeds("a", (1.8, 1.9)) + write_seeds("b", (1.7, 1.75), norm="layernorm")
    assert commands.run(["compare", *names, "--output=page.html"]) == 0
    out = capsys.readouterr().out
    assert str(jl.compare(names)) in out
    assert out.endswith("page: page.html\n")
    assert (here / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: RUN; --help shows what is accepted"),
        (["none"], "none holds no config.json; the folder of a trained run is needed"),
        (
            ["a", "--metric=x"],
            "--metric: 'x' is not a metric of a; held_out_loss, sample_real_words",
        ),
        (
            ["a", "--lab=no.py"],
            "no.py: cannot be read (No such file or directory); the file of a lab",
        ),
        (["a", "--output=no/page.html"], "--output: no/page.html cannot be written (No such file"),
        (["a", "--colour=1"], "unrecognized arguments: --colour=1; --help shows what is accepted"),
    ],
)
def test_bad_input_is_one_line_and_status_2(write_run, capsys, here, arguments, line):
    write_run("a")
    assert commands.run(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxlabs compare: {line}")
    assert error.count("\n") == 1
    assert not list(here.glob("*.html*"))
