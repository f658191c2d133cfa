"""`--vary` and `--seeds`: a sweep that the command line defines."""

import dataclasses
import shlex
import shutil

import pytest

from jaxlabs import labs
from jaxlabs.labs.attention.lab import STUDY
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.flags import command_flags

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

SHORT = ["--steps=2", "--batch_size=8", "--eval_every=2"]


@pytest.fixture
def lab(spirals):
    return labs.load(spirals)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Leaves out the plots of every run, which take most of its time."""

    def write_report(folder, lab):
        folder.write_text(folder.report, "page")
        return folder.report

    monkeypatch.setattr(modes, "write_report", write_report)


def points(*flags):
    """Returns the settings of every run of a command."""
    return cli.parse(LAB, flags).plan().points()


def test_points_are_the_product_with_the_seed_fastest():
    assert points("--vary", "learning_rate=1e-3,3e-3", "--vary=norm=rmsnorm", "--seeds=2") == [
        {"learning_rate": 0.001, "norm": "rmsnorm", "seed": 0},
        {"learning_rate": 0.001, "norm": "rmsnorm", "seed": 1},
        {"learning_rate": 0.003, "norm": "rmsnorm", "seed": 0},
        {"learning_rate": 0.003, "norm": "rmsnorm", "seed": 1},
    ]
    assert points("--seeds=3", "--seed=5") == [{"seed": 5}, {"seed": 6}, {"seed": 7}]
    assert points("--vary=seed=4,2") == [{"seed": 4}, {"seed": 2}]


def test_values_are_those_of_the_flag():
    values = points("--vary=bias=true,0", "--vary=attention_window=none,8", "--vary=width=64,32")
    assert values[0] == {"bias": True, "attention_window": None, "embed_dim": 64}
    assert values[-1] == {"bias": False, "attention_window": 8, "embed_dim": 32}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--vary=steps"], "--vary: 'steps' is not accepted; name=value,value, such as"),
        (["--vary=steps="], "--vary: 'steps=' is not accepted; name=value,value, such as"),
        (["--vary=stepz=1,2"], "--vary: 'stepz' is no setting that a sweep can vary; did you mean"),
        (["--vary=workdir=a,b"], "--vary: 'workdir' is no setting that a sweep can vary"),
        (["--vary=platform=cpu,gpu"], "--vary: 'platform' is no setting that a sweep can vary"),
        (["--vary=steps=1,x"], "--vary: steps: 'x' is not accepted; an integer"),
        (["--vary=steps=1,,2"], "--vary: steps: '' is not accepted; an integer"),
        (["--vary=steps=1,-2"], "--vary: steps: -2 is not accepted; an integer of at least 0"),
        (["--vary=norm=layer,rmsnorm"], "--vary: norm: 'layer' is not accepted; one of "),
        (["--vary=num_heads=2,3"], "--vary: num_heads: 3 "),
        (["--vary=steps=1,1"], "--vary: 'steps=1,1' is not accepted; every value once"),
        (["--vary=steps=1", "--vary=steps=2"], "--vary: steps is given twice; one list of values"),
        (["--vary=steps=1,2", "--steps=3"], "--steps: --vary varies it; leave it out"),
        (["--vary=steps=1", "--sweep=precision"], "--vary: not accepted with --sweep=precision; "),
        (["--seeds=2", "--sweep=precision"], "--seeds: not accepted with --sweep=precision; one"),
        (["--seeds=0"], "--seeds: 0 is not accepted; an integer of at least 1"),
        (["--seeds=2", "--vary=seed=1,2"], "--seeds: --vary varies the seed; one of them"),
        (["--vary=steps=1,2", "--mode=sample"], "--vary: not accepted with --mode=sample; "),
        (["--seeds=2", "--mode=evaluate"], "--seeds: not accepted with --mode=evaluate; "),
        (["--vary=momentum=0.5,0.9"], "--vary: momentum: not used by --optimizer "),
    ],
)
def test_invalid_values_and_conflicts_give_one_line(flags, line, refused, here):
    assert refused(*flags).startswith(line)
    assert not (here / "runs").exists()


def test_setting_named_seeds_keeps_its_flag():
    names = [flag.name for flag in command_flags(STUDY)]
    assert "vary" in names
    assert "seeds" not in names


def test_every_point_is_a_complete_run_and_all_are_compared(lab, monkeypatch, capsys):
    flags = [*SHORT, "--vary=hidden_size=4,8"]
    trained, real = [], modes.train

    def train(invocation, *, report):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(invocation.overrides["hidden_size"])
        real(invocation, report=report)

    monkeypatch.setattr(modes, "train", train)
    assert cli.run(lab, [*flags, "--seeds=2"]) == 130
    monkeypatch.setattr(modes, "train", real)
    folder = RunFolder("runs/spirals-quick-vary-hidden_size-seed")
    before = (folder.runs / "hidden_size=4,seed=0" / "summary.json").stat().st_mtime_ns
    assert cli.run(lab, [*flags, "--seeds=2"]) == 0
    after = (folder.runs / "hidden_size=4,seed=0" / "summary.json").stat().st_mtime_ns
    assert after == before  # a complete run is not trained again

    config, groups = folder.read_config(), folder.read_summary()["groups"]
    assert config["axes"] == {"hidden_size": [4, 8], "seed": [0, 1]}
    assert [group["settings"] for group in groups] == [{"hidden_size": 4}, {"hidden_size": 8}]
    for group in groups:
        runs = [RunFolder(folder.runs / name) for name in group["runs"]]
        assert all(run.report.exists() for run in runs)
        values = [run.read_summary()["metrics"]["test_accuracy"] for run in runs]
        assert group["metrics"] == {"test_accuracy": group["metrics"]["test_accuracy"]}
        assert group["metrics"]["test_accuracy"]["values"] == values
    assert "How does the result depend on hidden_size and seed?" in folder.report.read_text()

    # The command of a point repeats it.
    words = shlex.split(runs[1].read_config()["command"])[2:-1]
    assert cli.run(lab, [*words, "--workdir=single"]) == 0
    digests = [run.read_summary()["parameters_sha256"] for run in (runs[1], RunFolder("single"))]
    assert digests[0] == digests[1]

    # More values keep the complete runs; fewer are another sweep.
    assert cli.run(lab, [*flags, "--seeds=3"]) == 0
    assert (folder.runs / "hidden_size=4,seed=0" / "summary.json").stat().st_mtime_ns == before
    assert folder.read_config()["axes"]["seed"] == [0, 1, 2]
    assert [group["seeds"] for group in folder.read_summary()["groups"]] == [[0, 1, 2]] * 2
    capsys.readouterr()
    assert cli.run(lab, [*flags, "--seeds=1"]) == 2
    assert "vary seed (stored [0, 1, 2], given [0])" in capsys.readouterr().err


def test_lab_without_main_metrics_compares_the_monitored_loss(lab):
    assert cli.run(dataclasses.replace(lab, main_metrics=()), [*SHORT, "--seeds=1"]) == 0
    (group,) = RunFolder("runs/spirals-quick-vary-seed").read_summary()["groups"]
    assert list(group["metrics"]) == ["test_loss"]


def test_settings_of_a_file_hold_for_every_point(lab):
    assert cli.run(lab, [*SHORT, "--seed=3", "--turns=1", "--workdir=first"]) == 0
    flags = ["--config=first/config.json", "--vary=hidden_size=4,8", "--workdir=swept"]
    assert cli.run(lab, flags) == 0
    run = RunFolder("swept/runs/hidden_size=8")
    settings = run.read_config()["settings"]
    assert (settings["seed"], settings["turns"], settings["steps"]) == (3, 1, 2)
    assert "--config=first/config.json" in run.read_config()["command"]


def test_study_is_swept(here):
    count = """
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig
STUDY = Study(
    name="count", description="Counts.", config_class=CommonConfig, presets={"quick": {}},
    measure=lambda config, folder: StudyResult({"seed": config.seed, "one": 1.0}, "1"),
)
"""
    (here / "count.py").write_text(count)
    assert cli.run(labs.load("count.py"), ["--seeds=2", "--seed=4"]) == 0
    (group,) = RunFolder("runs/count-quick-vary-seed").read_summary()["groups"]
    assert group["metrics"]["seed"]["values"] == [4, 5]
    assert group["metrics"]["one"]["mean"] == 1
    shutil.rmtree("runs")
