"""Finished runs: what a comparison reads, groups and refuses."""

import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import jaxlabs as jl
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.state import create_state

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders"


def test_runs_are_grouped_by_settings_and_only_differing_ones_are_shown(write_seeds):
    names = write_seeds("a", (1.8, 1.9), norm="layernorm") + write_seeds(
        "b", (1.7, 1.75), norm="rmsnorm"
    )
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


def test_float_that_is_stored_as_an_integer_is_the_same_setting(write_run):
    comparison = jl.compare(
        [
            write_run("a", seed=0, dropout=0),
            write_run("b", seed=1, dropout=0.0),
            write_run("c", seed=0, dropout=0.5),
        ]
    )
    assert [len(group.runs) for group in comparison.groups] == [2, 1]


def test_runs_of_equal_settings_and_seeds_are_grouped_by_folder(write_seeds):
    names = write_seeds("before", (1.8,)) + write_seeds("after", (1.7,))
    assert [group.description for group in jl.compare(names).groups] == ["before-0", "after-0"]


def test_folder_of_a_sweep_stands_for_its_runs(write_run, here):
    for value in (0.1, 0.2):
        write_run(f"sweep/runs/dropout={value}", dropout=value)
    (here / "sweep/runs/dropout=0.3").mkdir()
    content = json.loads((here / "sweep/runs/dropout=0.1/config.json").read_text())
    content |= {"sweep": "dropout", "question": "?"}
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
        (
            {"config": {"experiment": "attention", "settings": {}}},
            "b: attention is a study, without tr",
        ),
        ({"config": {"experiment": "unknown"}}, "lab: 'unknown', the lab of this run, is not inst"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(write_run, given, line):
    names = [write_run("a"), write_run("b", **given)]
    with pytest.raises(
        ValueError, match="^" + line.replace("(", r"\(").replace(")", r"\)")
    ) as error:
        jl.compare(names)
    assert "\n" not in str(error.value)


def test_data_without_a_hash_are_distinguished_by_name_and_setting(write_run):
    names = [write_run(name, config=UNHASHED, dataset=f"{name}.csv") for name in "ab"]
    with pytest.raises(
        ValueError, match=r"^b: other data \(markov, b.csv\) than a \(markov, a.csv\)$"
    ):
        jl.compare(names)
    names = [write_run("c", config=UNHASHED), write_run("d", config={"dataset": {"name": "other"}})]
    with pytest.raises(ValueError, match=r"^d: other data \(other, .*\) than c \(markov, "):
        jl.compare(names)
    moved = [write_run("e", dataset="e.csv"), write_run("f", dataset="f.csv")]
    assert len(jl.compare(moved).groups) == 2  # the same contents


def test_other_split_of_the_data_is_refused(write_run):
    config = {"experiment": "speech_lm", "settings": {}}
    names = [write_run("a", config=config), write_run("b", config=config, validation_fraction=0.1)]
    with pytest.raises(ValueError, match=r"^b: other data, validation_fraction=0.1, than a, valid"):
        jl.compare(names)


def save_data_specs(here, specs):
    model = nn.Dense(2)
    state = create_state(model, model.init(jax.random.key(0), np.ones((1, 2))), optax.identity())
    for name, spec in specs.items():
        with Checkpoints(here / name / "checkpoints", 1) as checkpoints:
            checkpoints.save(state, {"data_spec": spec}, None)


def test_loss_with_another_tokenizer_is_refused(write_run, here):
    names = [write_run("a"), write_run("b", dropout=0.1)]
    save_data_specs(here, {"a": {"alphabet": "abc"}, "b": {"alphabet": "abd"}})
    message = "^b: another tokenizer than a; their losses per token do not compare, bits per byte"
    with pytest.raises(ValueError, match=message):
        jl.compare(names)
    without_checkpoint = [write_run("c"), write_run("d", tokenizer="bytes")]
    with pytest.raises(ValueError, match=r"^d: another tokenizer than c; "):
        jl.compare(without_checkpoint)


def test_other_shape_is_refused(write_run, here):
    names = [write_run("a"), write_run("b", dropout=0.1)]
    save_data_specs(here, {"a": {"shape": [28]}, "b": {"shape": [32]}})
    with pytest.raises(ValueError, match=r"^b: another shape \(shape\) than a$"):
        jl.compare(names)


def test_tokenizers_are_compared_by_bits_per_byte(write_run, here):
    names = [write_run("a"), write_run("b", tokenizer="bytes")]
    save_data_specs(here, {"a": {"kind": "characters", "alphabet": "abc"}, "b": {"kind": "bytes"}})
    for name, bits in (("a", 2.0), ("b", 1.5)):
        summary = json.loads((here / name / "summary.json").read_text())
        summary["metrics"]["held_out_bits_per_byte"] = bits
        (here / name / "summary.json").write_text(json.dumps(summary))
    comparison = jl.compare(names)
    assert comparison.metric == "held_out_bits_per_byte"
    assert "tokenizer=bytes" in str(comparison)
    with pytest.raises(ValueError, match=r"^b: another tokenizer than a; "):
        jl.compare(names, metric="held_out_loss")


def test_unfinished_run_same_run_and_unknown_metric_are_refused(write_run, here):
    names = [write_run("a"), write_run("b", dropout=0.1)]
    with pytest.raises(ValueError, match=r"^runs: empty; at least one run$"):
        jl.compare([])
    for wrong in ("a", jl.load_run("a")):
        with pytest.raises(ValueError, match=r"^runs: expected one list of runs, such as compar"):
            jl.compare(wrong)
    with pytest.raises(
        TypeError, match=r"compare\(\) takes 1 positional argument but 2 were given"
    ):
        jl.compare("a", "b")
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


def test_runs_of_a_lab_without_a_name_are_compared_as_loaded(write_run):
    lab = dataclasses.replace(LAB, name="mine")
    config = {"experiment": "mine"}
    names = [write_run("a", config=config), write_run("b", dropout=0.1, config=config)]
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
