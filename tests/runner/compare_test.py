"""Comparisons of finished runs: verdicts equal tests of scipy, and what differs is refused."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
import scipy.stats

import jaxlabs as jl
from jaxlabs import commands
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import verdict
from jaxlabs.runner.verdict import power, seeds_needed
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.state import create_state

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"
DEVICE = {"platform": "cpu", "kind": "cpu", "devices": 1}
CONFIG = {
    "experiment": "gpt",
    "preset": "quick",
    "settings": LAB.config_class.from_flat(LAB.presets["quick"]).flat(),
    "dataset": {"name": "markov", "sha256": "ab" * 32},
    "device": DEVICE,
    "loss_unit": "nats",
}
LOSSES = (3.0, 2.5, 2.1, 1.8)
"""At steps 0, 10, 20 and 30, that is after 0, 1, 2 and 3 seconds."""


@pytest.fixture
def write(here):
    """`write(name, losses, config={}, **settings) -> name`: writes a finished run."""

    def write(name, losses=LOSSES, *, seconds=3.0, flops=1e6, split="held_out", config=(), **given):
        folder = RunFolder(here / name)
        folder.create()
        content = copy.deepcopy(CONFIG) | dict(config)
        content["settings"] |= {"steps": 30} | given
        folder.write_config(content)
        times = np.linspace(0, seconds, len(losses))
        rows = [
            {"step": 10 * i, "split": split, "loss": loss, "seconds": times[i]}
            for i, loss in enumerate(losses)
        ]
        folder.append_metrics(rows)
        folder.write_summary(
            {
                "experiment": content["experiment"],
                "preset": "quick",
                "steps": 10 * (len(losses) - 1),
                "seconds": seconds,
                "flops_per_step": flops,
                "metrics": {
                    f"{split}_loss": losses[-1],
                    "sample_real_words": 0.5,
                },
                "comparison": [],
                "environment": {},
            }
        )
        return name

    return write


@pytest.fixture
def seeds(write):
    """`seeds(name, ends, **settings) -> names`: runs with seeds 0, 1, ..., by their last loss."""

    def seeds(name, ends, **given):
        return [
            write(f"{name}-{seed}", (*LOSSES[:-1], end), seed=seed, **given)
            for seed, end in enumerate(ends)
        ]

    return seeds


def test_runs_are_grouped_by_settings_and_only_differing_ones_are_shown(seeds):
    names = seeds("a", (1.8, 1.9), norm="layernorm") + seeds("b", (1.7, 1.75), norm="rmsnorm")
    comparison = jl.compare(names)
    assert [group.settings for group in comparison.groups] == [
        {"norm": "layernorm"},
        {"norm": "rmsnorm"},
    ]
    assert [[run.seed for run in group.runs] for group in comparison.groups] == [[0, 1], [0, 1]]
    lines = str(comparison).splitlines()
    assert lines[0] == "gpt: held out loss"
    assert " ".join(lines[1].split()) == "group settings seeds at step 30 at 3.0 s time"
    assert lines[2].split()[:6] == ["A", "norm=layernorm", "2", "1.8500", "±", "0.071"]
    assert lines[3].split()[:4] == ["B", "norm=rmsnorm", "2", "1.7250"]


def test_decided_verdict_has_the_interval_of_the_paired_t_test(seeds):
    ours, theirs = (1.80, 1.82, 1.81, 1.79), (1.70, 1.71, 1.72, 1.70)
    names = seeds("a", ours) + seeds("b", theirs, learning_rate=0.01)
    found = jl.compare(names).bases[0].verdicts[0]
    interval = scipy.stats.ttest_rel(theirs, ours).confidence_interval()
    np.testing.assert_allclose([found.low, found.high], interval, rtol=1e-9)
    assert found.decided
    assert str(found) == (
        f"B is lower than A by 0.0975 (95% interval −{-interval.low:.4g} to"
        f" −{-interval.high:.4g}, 4 seeds)"
    )


def test_undecided_verdict_says_how_many_more_seeds(seeds):
    ours, theirs = (1.80, 1.82, 1.81), (1.78, 1.83, 1.79)
    found = jl.compare(seeds("a", ours) + seeds("b", theirs, dropout=0.1)).bases[0].verdicts[0]
    needed = seeds_needed(np.subtract(theirs, ours)) - 3
    assert not found.decided
    assert str(found).startswith("undecided: B − A = −0.01 (95% interval −0.0")
    assert str(found).endswith(
        f"3 seeds); a difference of this size takes about {needed} more seeds (80% power)"
    )


@pytest.mark.parametrize("effect", [2.5, 1.0, 0.4])
def test_number_of_seeds_has_the_stated_power_in_a_simulation(effect):
    differences = effect + np.array([-1.0, 1.0]) / np.sqrt(2)  # deviation 1
    count, trials = seeds_needed(differences), 20_000
    samples = np.random.default_rng(0).normal(effect, 1.0, (trials, count))
    found = np.mean(scipy.stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05)
    error = np.sqrt(0.8 * 0.2 / trials)
    assert found > verdict.POWER - 3 * error
    np.testing.assert_allclose(found, power(effect, np.array([count]))[0], atol=4 * error)
    fewer = scipy.stats.ttest_1samp(samples[:, :-1], 0.0, axis=1).pvalue < 0.05
    assert np.mean(fewer) < verdict.POWER + 3 * error


@pytest.mark.parametrize(
    ("differences", "expected"), [([1.0, -1.0], None), ([0.001, -1.0, 1.0], None), ([1.0, 1.0], 2)]
)
def test_no_number_of_seeds_for_no_or_a_tiny_difference(differences, expected):
    assert seeds_needed(differences) == expected


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
def test_verdict_without_an_interval_says_why(seeds, ours, theirs, words):
    names = seeds("a", ours) + seeds("b", theirs, dropout=0.1)
    comparison = jl.compare(names, metric="held_out_loss")
    assert str(comparison.bases[0].verdicts[0]) == words


def test_groups_without_a_common_seed_are_undecided(write):
    names = [write("a", seed=1), write("b", seed=2, dropout=0.1)]
    assert "undecided without a common seed of B and A" in str(jl.compare(names))


def test_equal_time_interpolates_the_slower_run(write):
    names = [write("fast", seconds=2.0), write("slow", seconds=5.0, num_layers=8)]
    comparison = jl.compare(names)
    at_steps, at_time = comparison.bases
    assert (at_steps.name, at_time.name) == ("at step 30", "at 2.0 s")
    means = [row["metrics"]["value"]["mean"] for row in at_time.statistics]
    np.testing.assert_allclose(means, [1.8, 2.5 + (2 - 5 / 3) / (5 / 3) * (2.1 - 2.5)])
    assert comparison.notes == [
        "at 2.0 s, B had taken 40% of its steps: a run that is planned for this time, with its"
        " learning rate, would do better"
    ]


def test_equal_steps_are_the_last_that_all_runs_evaluated(write):
    comparison = jl.compare([write("short", LOSSES[:3]), write("long", dropout=0.1)])
    assert comparison.bases[0].name == "at step 20"
    assert comparison.bases[0].verdicts[0].difference == 0


def test_runs_of_other_machines_are_not_compared_at_equal_time(write):
    names = [write("a"), write("b", dropout=0.1, config={"device": DEVICE | {"kind": "H200"}})]
    comparison = jl.compare(names)
    assert [basis.name for basis in comparison.bases] == ["at step 30"]
    assert comparison.notes == [
        "the runs were made on different machines: no verdict at equal time"
    ]


def test_runs_without_steps_have_no_verdict(write):
    comparison = jl.compare(
        [write("a", LOSSES[:1], seconds=0.0), write("b", LOSSES[:1], seconds=0.0, dropout=0.1)]
    )
    assert not comparison.bases
    assert comparison.notes == [
        "no evaluated step is common to all runs: no verdict at equal steps",
        "a run has not trained: no verdict at equal time",
    ]
    assert "a run has not trained" in comparison._repr_html_()


def test_metric_of_the_end_is_compared_at_the_end(write):
    comparison = jl.compare([write("a"), write("b", dropout=0.1)], metric="sample_real_words")
    assert [basis.name for basis in comparison.bases] == ["at the end"]
    assert "base64" not in comparison._repr_html_()  # it has no curve


def test_runs_of_equal_settings_and_seeds_are_grouped_by_folder(seeds):
    names = seeds("before", (1.8,)) + seeds("after", (1.7,))
    assert [group.description for group in jl.compare(names).groups] == ["before-0", "after-0"]


def test_folder_of_a_sweep_stands_for_its_runs(write, here):
    for value in (0.1, 0.2):
        write(f"sweep/runs/dropout={value}", dropout=value)
    (here / "sweep/runs/dropout=0.3").mkdir()
    content = CONFIG | {"sweep": "dropout", "question": "?"}
    (here / "sweep/config.json").write_text(json.dumps(content))
    comparison = jl.compare(["sweep"])
    assert [group.settings for group in comparison.groups] == [{"dropout": 0.1}, {"dropout": 0.2}]
    (note,) = [note for note in comparison.notes if note.startswith("left out")]
    assert note.endswith("dropout=0.3 is unfinished or has diverged")


OTHER = {"dataset": {"name": "other", "sha256": "cd" * 32}}
UNHASHED = {"dataset": {"name": "markov"}}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"config": {"experiment": "char_rnn"}}, "b: a run of char_rnn, but a is one of gpt"),
        ({"config": OTHER}, "b: other data (other, cdcdcdcd) than a (markov, abababab)"),
        ({"split": "test"}, "b: evaluated on the split test, but a on held_out"),
        ({"config": {"experiment": "attention", "settings": {}}}, "b: attention is a study; runs"),
        ({"config": {"experiment": "unknown"}}, "lab: 'unknown', the lab of this run, is not inst"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(write, given, line):
    names = [write("a"), write("b", **given)]
    with pytest.raises(
        ValueError, match="^" + line.replace("(", r"\(").replace(")", r"\)")
    ) as error:
        jl.compare(names)
    assert "\n" not in str(error.value)


def test_data_without_a_hash_are_told_apart_by_name_and_setting(write):
    names = [write(name, config=UNHASHED, dataset=f"{name}.csv") for name in "ab"]
    with pytest.raises(
        ValueError, match=r"^b: other data \(markov, b.csv\) than a \(markov, a.csv\)$"
    ):
        jl.compare(names)
    names = [write("c", config=UNHASHED), write("d", config={"dataset": {"name": "other"}})]
    with pytest.raises(ValueError, match=r"^d: other data \(other, .*\) than c \(markov, "):
        jl.compare(names)
    moved = [write("e", dataset="e.csv"), write("f", dataset="f.csv")]
    assert len(jl.compare(moved).groups) == 2  # the same contents


def test_other_split_of_the_data_is_refused(write):
    config = {"experiment": "speech_lm", "settings": {}}
    names = [write("a", config=config), write("b", config=config, validation_fraction=0.1)]
    with pytest.raises(ValueError, match=r"^b: other data, validation_fraction=0.1, than a, valid"):
        jl.compare(names)


def test_other_tokenizer_is_refused(write, here):
    model = nn.Dense(2)
    state = create_state(model, model.init(jax.random.key(0), np.ones((1, 2))), optax.identity())
    names = [write("a"), write("b", dropout=0.1)]
    for name, alphabet in zip(names, ("abc", "abd"), strict=True):
        with Checkpoints(here / name / "checkpoints", 1) as checkpoints:
            checkpoints.save(state, {"data_spec": {"alphabet": alphabet}}, None)
    with pytest.raises(ValueError, match=r"^b: another tokenizer or shape \(alphabet\) than a$"):
        jl.compare(names)


def test_unfinished_run_same_run_and_unknown_metric_are_refused(write, here):
    names = [write("a"), write("b", dropout=0.1)]
    with pytest.raises(ValueError, match=r"^runs: empty; at least one run$"):
        jl.compare([])
    for wrong in (("a", "b"), ("a",), (jl.load_run("a"),)):
        with pytest.raises(ValueError, match=r"^runs: expected one list of runs, such as compar"):
            jl.compare(*wrong)
    with pytest.raises(ValueError, match=r"^none holds no config.json; the folder of a trained"):
        jl.compare(["none"])
    with pytest.raises(ValueError, match=r"^metric: 'held_out_los' is not a metric of a; did you"):
        jl.compare(names, metric="held_out_los")
    with pytest.raises(ValueError, match=r"^a: given twice$"):
        jl.compare(["a", "b", here / "a"])
    (here / "b" / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"^b: evaluated on the split train, but a on held_out$"):
        jl.compare(names)
    (here / "b" / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"^b: not finished; the command of the run resumes it$"):
        jl.compare(names)


def test_page_has_curves_against_steps_time_and_flops(seeds):
    names = seeds("a", (1.8, 1.9)) + seeds("b", (1.7, 1.75), norm="layernorm", flops=2e6)
    page = jl.compare(names).write("page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png;base64,") == 1
    assert "against step, training time [s], training FLOPs" in page
    assert "norm=layernorm" in page
    assert "B is lower than A" in page or "undecided: B − A" in page
    assert "b-1" in page
    names += [seeds("c", (1.8,), dropout=0.3, flops=None)[0]]
    assert "training FLOPs, one color" not in jl.compare(names)._repr_html_()


def test_runs_of_a_lab_without_a_name_are_compared_as_loaded(write):
    lab = dataclasses.replace(LAB, name="mine")
    config = {"experiment": "mine"}
    names = [write("a", config=config), write("b", dropout=0.1, config=config)]
    with pytest.raises(ValueError, match="not inst"):
        jl.compare(names)
    assert str(jl.compare(names, lab=lab)).startswith("mine: held out loss")
    comparison = jl.compare([jl.load_run(name, lab=lab) for name in names])
    assert [group.settings for group in comparison.groups] == [{"dropout": 0.0}, {"dropout": 0.1}]


def test_stored_runs_of_earlier_versions_are_compared(here):
    for name in ("gpt_muon", "gpt_dropout_ema"):
        shutil.copytree(STORED / name, here / name)
    comparison = jl.compare(["gpt_muon", jl.load_run("gpt_dropout_ema")])
    assert {"optimizer", "dropout", "ema_decay"} <= comparison.groups[1].settings.keys()
    assert comparison.bases[0].name == "at step 8"


def test_command_prints_the_table_and_writes_the_page(seeds, capsys, here):
    names = seeds("a", (1.8, 1.9)) + seeds("b", (1.7, 1.75), norm="layernorm")
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
def test_bad_input_is_one_line_and_status_2(write, capsys, here, arguments, line):
    write("a")
    assert commands.run(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxlabs compare: {line}")
    assert error.count("\n") == 1
    assert not list(here.glob("*.html*"))
