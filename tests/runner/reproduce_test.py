"""Tests of suites: all labs, interruption and resume, and a failing lab."""

import dataclasses
import json
import os
import signal

import pytest

from jaxlabs.config import RUNTIME, UserError, setting
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.lab import Study, StudyResult, Suite
from jaxlabs.training.run_config import CommonConfig, SuiteConfig

MEASURED = []


def fake(name, presets=("quick", "reference"), *, lab=None, **metrics):
    """Returns a study with known metrics; seed n adds n tenths."""

    def measure(config, folder):
        MEASURED.append((name, config.seed))
        if name in ERRORS:
            raise ERRORS[name]
        shift = config.seed / 10
        return StudyResult(
            {key: value + shift for key, value in metrics.items()}, f"{name} is done"
        )

    presets = {preset: {} for preset in presets}
    about = {"description": "Returns fixed metrics.", "config_class": CommonConfig}
    about |= lab or {}
    return Study(name=name, presets=presets, measure=measure, **about)


ERRORS = {}
LABS = {
    "other": fake("other", ("quick",), a=1.0, b=2.0, c=3.0, d=4.0),
    # With the published results of the real lab.
    "gpt": fake(
        "gpt",
        lab={
            "published": gpt.LAB.published,
            "main_metrics": ("held_out_loss", "sliding_window_loss", "not_measured"),
        },
        **{"held_out_loss": 1.5, "train_loss": 1.0, "sliding_window_loss": 1.25},
    ),
}


def made_of(labs):
    return Suite(
        name="reproduce",
        description="All.",
        config_class=SuiteConfig,
        presets={"quick": {}, "reference": {}, "best": {}},
        labs=labs,
    )


ALL = made_of(LABS)
FOLDER = RunFolder("runs/reproduce-quick")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MEASURED.clear()
    ERRORS.clear()


def table(folder=FOLDER):
    """Returns the rows of results.md as lists of cells."""
    lines = (folder.path / "results.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert rows[0] == ["lab", "quantity", "published", "ours", "ratio", "seeds", "time", "command"]
    return rows[2:]


def test_table_has_published_and_main_metrics_as_means_over_seeds(capsys):
    assert cli.run(ALL, ["--seeds=3"]) == 0
    rows = table()
    assert [row[:2] for row in rows] == [
        *(["`other`, quick", name] for name in "abc"),  # the first ones, since main has none
        ["`gpt`, quick", "nanoGPT, three minutes on a CPU"],
        ["`gpt`, quick", "sliding window loss"],
        ["`gpt`, quick", "not measured"],
    ]
    assert rows[5][3:5] == ["—", "—"]
    assert rows[3][2:6] == ["1.88 nats", "1.6000 nats ± 0.1000 nats", f"{1.6 / 1.88:.3f}", "3"]
    assert rows[3][7] == "`jaxlabs gpt --preset=quick --seed=0  # and --seed=1, 2`"
    assert rows[4][2:5] == ["—", "1.3500 ± 0.1000", "—"]
    summary = FOLDER.read_summary()
    text = (FOLDER.path / "results.md").read_text()
    assert text in capsys.readouterr().out
    results = json.loads((FOLDER.path / "results.json").read_text())
    assert results == {name: summary[name] for name in results}
    assert {"preset", "dates", "machines", "results", "failures"} == set(results)
    assert [row["metric"] for row in results["results"]][3] == "held_out_loss"
    assert f"{summary['environment']['cores']} cores; python 3." in text
    assert f"Run on {summary['dates'][0]} (UTC)." in text
    assert "jax " in text
    page = FOLDER.report.read_text()
    assert "Results of the labs" in page
    assert "nanoGPT, three minutes on a CPU" in page
    single = RunFolder(FOLDER.runs / "gpt" / "seed=1")
    assert single.report.exists()
    assert f"--workdir={single.path}" in single.read_config()["command"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderConfig(CommonConfig):
    source: str = setting("nothing", "a run to read", kind=RUNTIME)


def test_lab_with_an_input_runs_after_its_source_and_gets_its_folder():
    read = []

    def measure(config, folder):
        read.append(config.source)
        return StudyResult({"a": 1.0}, "read")

    about = {"description": "Reads.", "config_class": ReaderConfig, "presets": {"quick": {}}}
    reader = Study(name="reader", measure=measure, inputs={"source": "other"}, **about)
    both = made_of({"reader": reader, "other": LABS["other"]})
    assert cli.run(both, ["--seeds=2"]) == 0
    assert [(name, seed) for name, seed in MEASURED] == [("other", 0), ("other", 1)]
    assert read == [str(FOLDER.runs / "other" / f"seed={seed}") for seed in (0, 1)]
    assert cli.run(both, ["--overwrite", "--labs=reader"]) == 0
    assert read[2:] == ["nothing"]


def test_preset_applies_to_labs_that_have_it_and_reasons_are_listed():
    assert cli.run(ALL, ["--preset=reference"]) == 0
    folder = RunFolder("runs/reproduce-reference")
    rows = table(folder)
    assert rows[0][0] == "`other`, quick (no preset reference)"
    (memorized,) = [row for row in rows if row[2].startswith("0.988")]
    assert memorized[0] == "`gpt`, reference"
    assert memorized[2] == "0.988 nats [1]"
    assert (
        "- [1] gpt: not comparable: below the write-up" in (folder.path / "results.md").read_text()
    )
    assert rows[3][2:5] == ["10,690,625", "—", "—"]  # missing metrics have no value


@pytest.mark.parametrize("change", [{"comparison": [{}]}, {"seed": 5}, {"seconds": None}])
def test_run_with_a_damaged_summary_is_repeated_or_reported(change, capsys):
    assert cli.run(ALL, ["--seeds=2"]) == 0
    damaged = RunFolder(FOLDER.runs / "gpt" / "seed=1")
    damaged.write_summary(damaged.read_summary() | change)
    MEASURED.clear()
    capsys.readouterr()
    status = cli.run(ALL, ["--seeds=2"])
    err = capsys.readouterr().err
    if not MEASURED:  # readable, but inconsistent
        assert status == 1
        assert f"gpt, seed 1 failed: {damaged.path}: damaged (" in err
        assert table()[3][5] == "1"  # seed
    else:
        assert (status, MEASURED) == (0, [("gpt", 1)])
    assert "Traceback" not in err


def test_run_with_a_damaged_config_is_reported_and_the_others_listed(capsys):
    assert cli.run(ALL, ["--seeds=2"]) == 0
    config = FOLDER.runs / "gpt" / "seed=1" / "config.json"
    config.write_text("null")
    for flags in (["--seeds=2"], ["--labs=other"]):
        capsys.readouterr()
        assert cli.run(ALL, flags) == 1
        err = capsys.readouterr().err
        assert f"gpt, seed 1 failed: {config}: damaged (not an object); restore it" in err
        assert "Traceback" not in err
        assert len(table()) == 6
    assert config.read_text() == "null"


def test_complete_runs_are_not_repeated_and_new_ones_join_the_table():
    assert cli.run(ALL, ["--labs=gpt"]) == 0
    assert {row[0] for row in table()} == {"`gpt`, quick"}
    assert cli.run(ALL, ["--labs=other, gpt", "--seeds=2"]) == 0
    assert MEASURED == [("gpt", 0), ("other", 0), ("other", 1), ("gpt", 1)]
    assert cli.run(ALL, ["--labs=other"]) == 0
    assert len(MEASURED) == 4
    assert {(row[0], row[5]) for row in table()} == {("`gpt`, quick", "2"), ("`other`, quick", "2")}


def test_failed_lab_is_reported_and_the_others_run(capsys):
    ERRORS["other"] = UserError("--dataset: nothing there")
    assert cli.run(ALL, []) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-1] == "reproduce: other, seed 0 failed: --dataset: nothing there"
    assert [row[0] for row in table()] == ["`gpt`, quick"] * 3
    assert "- Failed: other, seed 0: --dataset" in (FOLDER.path / "results.md").read_text()
    assert "Failed: other, seed 0" in FOLDER.report.read_text()
    ERRORS["other"] = ZeroDivisionError("a\nbug")
    assert cli.run(ALL, []) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1] == "reproduce: other, seed 0 failed: ZeroDivisionError: a bug"
    ERRORS.clear()
    assert cli.run(ALL, []) == 0
    assert MEASURED.count(("gpt", 0)) == 1
    assert "Failed" not in (FOLDER.path / "results.md").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_a_study_keeps_the_table_so_far(capsys, number):
    def measure(config, folder):
        os.kill(os.getpid(), number)

    stopped = dataclasses.replace(LABS["gpt"], measure=measure)
    assert cli.run(made_of(LABS | {"gpt": stopped}), []) == 128 + number
    assert capsys.readouterr().err.splitlines()[-1] == (
        "reproduce: interrupted in gpt, seed 0; run the same command to resume"
    )
    assert [row[0] for row in table()] == ["`other`, quick"] * 3
    assert cli.run(ALL, []) == 0
    assert MEASURED == [("other", 0), ("gpt", 0)]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("reused_executables", "quickly_compiled")
def test_interrupted_lab_resumes_from_its_checkpoint(play, capsys):
    tiny = {
        "context_length": 16,
        "embed_dim": 16,
        "mlp_dim": 16,
        "num_layers": 1,
        "num_heads": 2,
        "steps": 8,
    }
    tiny |= {"batch_size": 4, "eval_every": 4, "checkpoint_every": 4, "max_new_tokens": 8}
    lab = dataclasses.replace(
        gpt.LAB,
        presets={"quick": tiny | {"dataset": str(play)}},
        sample=lambda *arguments: "",  # compiling sampling and analysis would dominate the time
        analyze=lambda *arguments: {},
    )

    def sample(config, task, data_spec, state, key):
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return ""

    stopping = dataclasses.replace(lab, sample=sample)
    assert cli.run(made_of({"gpt": stopping, "other": LABS["other"]}), []) == 143
    assert capsys.readouterr().err.splitlines()[-1] == (
        "reproduce: interrupted in gpt, seed 0, at step 4/8, checkpoint saved; run the same command"
        " to resume"
    )
    assert not MEASURED
    assert cli.run(made_of({"gpt": lab, "other": LABS["other"]}), []) == 0
    single = RunFolder(FOLDER.runs / "gpt" / "seed=0")
    assert single.read_summary()["steps"] == 8
    steps = [row["step"] for row in single.read_metrics() if row["split"] == "held_out"]
    assert steps == [0, 4, 8]
    assert single.report.exists()
    assert MEASURED == [("other", 0)]
    unread = dataclasses.replace(lab, load_data=None)  # a complete run needs no data
    assert cli.run(made_of({"gpt": unread, "other": LABS["other"]}), []) == 0
    rows = table()
    assert rows[0][3].endswith(" nats")
    assert "[1]" in rows[0][2]  # trained on another text


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--labs=gtp", "--labs: 'gtp' is not accepted; all, or some of other, gpt; did you mean"),
        ("--labs=", "--labs: '' is not accepted; all, or some of other, gpt"),
        ("--seeds=0", "--seeds: 0 is not accepted; an integer of at least 1"),
        ("--preset=fast", "--preset: 'fast' is not accepted; one of quick, reference, best"),
        ("--steps=3", "--steps: unknown flag"),
    ],
)
def test_invalid_flags_give_one_line_and_create_nothing(tmp_path, capsys, flag, line):
    assert cli.run(ALL, [flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"reproduce: {line}")
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_folder_of_another_preset_is_refused(capsys):
    assert cli.run(ALL, ["--labs=gpt"]) == 0
    flags = ["--labs=gpt", f"--workdir={FOLDER.path}", "--preset=reference"]
    assert cli.run(ALL, flags) == 2
    assert "different settings: preset (stored quick, given reference)" in capsys.readouterr().err
    assert cli.run(ALL, [*flags, "--overwrite"]) == 0
    assert {row[0] for row in table()} == {"`gpt`, reference"}
