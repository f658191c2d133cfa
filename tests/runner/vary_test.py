"""`--vary` and `--seeds`: a sweep that the command line defines."""

import dataclasses
import shlex

import pytest

from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.labs.attention.lab import STUDY
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.flags import command_flags, error_line

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


def test_tokenizers_are_compared_by_bits_per_byte():
    plan = cli.parse(LAB, ["--vary", "tokenizer=char,bpe:4096"]).plan()
    assert [point["tokenizer"] for point in plan.points()] == ["char", "bpe:4096"]
    assert list(plan.metrics) == ["held_out_bits_per_byte", "sliding_window_bits_per_byte"]
    assert "held_out_loss" in cli.parse(LAB, ["--vary", "dropout=0,0.1"]).plan().metrics


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
        (
            ["--vary=temperature=1,2"],
            "--vary: 'temperature' is no setting that a sweep can vary, s",
        ),
        (["--vary=dropout=0,0.1", "--steps=-1"], "--steps: -1 is not accepted; an integer of at"),
        (["--seeds=0"], "--seeds: 0 is not accepted; an integer of at least 1"),
        (
            ["--seeds=10001"],
            "--seeds: 10001 is not accepted; an integer of at least 1 and of",
        ),
        (["--seeds=5001", "--vary=dropout=0,0.1"], "--vary: 10002 runs are not accepted; at most"),
        (["--seeds=2", "--vary=seed=1,2"], "--seeds: --vary varies the seed; one of them"),
        (["--vary=steps=1,2", "--mode=sample"], "--vary: not accepted with --mode=sample; "),
        (["--seeds=2", "--mode=evaluate"], "--seeds: not accepted with --mode=evaluate; "),
        (["--vary=momentum=0.5,0.9"], "--vary: momentum: not used by --optimizer "),
        (["--seeds=2", "--momentum=0.5"], "--momentum: not used by --optimizer muon; only by sgd"),
        (
            ["--vary=optimizer=adam,lion", "--momentum=0.5"],
            "--momentum: not used by --optimizer adam or lion; only by sgd",
        ),
    ],
)
def test_invalid_values_and_conflicts_give_one_line(flags, line):
    with pytest.raises(UserError) as raised:
        cli.parse(LAB, flags)
    assert error_line(LAB, raised.value).startswith(line)


def test_setting_that_one_run_uses_is_accepted():
    assert len(points("--vary=optimizer=adam,sgd", "--momentum=0.5")) == 2


def test_other_settings_need_to_be_valid_only_with_those_that_vary():
    flags = ["--embed_dim=200", "--vary=num_heads=4,5", "--seeds=2"]
    sweep = cli.parse(LAB, [*flags, "--preset=reference"])  # 6 heads do not divide 200
    assert [point["num_heads"] for point in sweep.plan().points()] == [4, 4, 5, 5]
    assert sweep.folder().path.name == "gpt-reference-vary-num_heads-seed"


def test_invalid_value_is_refused_before_the_first_run(refused, here):
    line = "--vary: steps: -2 is not accepted; an integer of at least 0"
    assert refused("--vary=steps=0,-2") == line
    assert not (here / "runs").exists()


def test_setting_named_seeds_keeps_its_flag():
    names = [flag.name for flag in command_flags(STUDY)]
    assert "vary" in names
    assert "seeds" not in names


@pytest.fixture
def count(here):
    """A study that measures its seed and the length of its words."""
    text = """
import dataclasses
from jaxlabs.config import setting
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(CommonConfig):
    words: str = setting("a", "words to count")

def measure(config, folder):
    return StudyResult({"length": len(config.words) + config.seed / 10, "one": 1.0}, "counted")

STUDY = Study(
    name="count", description="Counts.", config_class=Config, presets={"quick": {}}, measure=measure
)
"""
    (here / "count.py").write_text(text)
    return labs.load("count.py")


COUNTED = RunFolder("runs/count-quick-vary-words-seed")


def times():
    """Returns when the runs ended, by name."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in COUNTED.runs.glob("*/summary.json")
    }


def test_interrupted_sweep_continues_and_compares_all_runs(count, monkeypatch):
    flags, real = ["--vary=words=ab,a/b", "--seeds=2", "--seed=3"], modes.measure

    def measure(invocation):
        if len(times()) == 3:
            raise KeyboardInterrupt
        real(invocation)

    monkeypatch.setattr(modes, "measure", measure)
    assert cli.run(count, flags) == 130
    monkeypatch.setattr(modes, "measure", real)
    before = times()
    assert cli.run(count, flags) == 0
    assert len(before) == 3
    assert before.items() <= times().items()  # a complete run does not run again
    config, groups = COUNTED.read_config(), COUNTED.read_summary()["groups"]
    assert config["axes"] == {"words": ["ab", "a/b"], "seed": [3, 4]}
    assert [group["settings"] for group in groups] == [{"words": "ab"}, {"words": "a/b"}]
    assert groups[1]["metrics"]["length"]["values"] == [3.3, 3.4]
    assert groups[1]["metrics"]["length"]["difference"] == pytest.approx(1)
    assert list(groups[0]["metrics"]) == ["length", "one"]  # the first ones of a study
    assert "How does the result depend on words and seed?" in COUNTED.report.read_text()


def test_sweep_grows_by_values_and_seeds_but_does_not_shrink(count, capsys):
    assert cli.run(count, ["--vary=words=a", "--seeds=1"]) == 0
    before = times()
    assert cli.run(count, ["--vary=words=abc,a", "--seeds=2"]) == 0
    assert before.items() <= times().items()
    assert len(times()) == 4
    assert COUNTED.read_config()["axes"] == {"words": ["abc", "a"], "seed": [0, 1]}
    assert [group["seeds"] for group in COUNTED.read_summary()["groups"]] == [[0, 1]] * 2
    capsys.readouterr()
    assert cli.run(count, ["--vary=words=abc,a", "--seeds=1"]) == 2
    assert "settings: vary seed (stored [0, 1], given [0]); use the" in capsys.readouterr().err
    assert cli.run(count, [f"--workdir={COUNTED.path}"]) == 2
    assert "sweep (stored vary-words-seed, given None)" in capsys.readouterr().err


def test_every_point_of_a_lab_is_a_complete_run(lab):
    assert cli.run(lab, [*SHORT, "--vary=turns=1,1.5"]) == 0
    folder = RunFolder("runs/spirals-quick-vary-turns")
    for turns, group in zip((1, 1.5), folder.read_summary()["groups"], strict=True):
        (name,) = group["runs"]
        run = RunFolder(folder.runs / name)
        assert run.report.exists()
        assert run.read_config()["settings"]["turns"] == turns
        assert list(group["metrics"]) == ["test_accuracy"]  # the main metrics of the lab
        value = run.read_summary()["metrics"]["test_accuracy"]
        assert group["metrics"]["test_accuracy"]["values"] == [value]
    # The command of a point repeats it.
    words = shlex.split(run.read_config()["command"])[2:-1]
    assert cli.run(lab, [*words, "--workdir=single"]) == 0
    digests = [one.read_summary()["parameters_sha256"] for one in (run, RunFolder("single"))]
    assert digests[0] == digests[1]


def test_settings_of_a_file_hold_for_every_point(lab):
    assert cli.run(lab, [*SHORT, "--seed=3", "--turns=1", "--workdir=first"]) == 0
    flags = ["--config=first/config.json", "--vary=learning_rate=0.5", "--workdir=swept"]
    # Without main metrics the monitored loss is compared.
    assert cli.run(dataclasses.replace(lab, main_metrics=()), flags) == 0
    run = RunFolder("swept/runs/learning_rate=0.5")
    settings = run.read_config()["settings"]
    assert (settings["seed"], settings["turns"], settings["steps"]) == (3, 1, 2)
    assert "--config=first/config.json" in run.read_config()["command"]
    (group,) = RunFolder("swept").read_summary()["groups"]
    assert list(group["metrics"]) == ["test_loss"]
