"""`--config=FILE`: the settings of a run, below the flags."""

import json
import shutil

import pytest

import jaxlabs as jl
from jaxlabs import labs
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.runner.config_file import NOT_TAKEN

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Leaves out the plots, which take most of the time of a run."""
    monkeypatch.setattr(modes, "write_report", lambda folder, lab: folder.report)


@pytest.fixture
def write(here):
    """`write(**content) -> flag`: writes config.json of a run of the preset `reference`."""

    def write(settings=None, **content):
        given = {"steps": 7, "platform": "tpu", "workdir": "/there", "coordinator": "a:1"}
        content = {"experiment": "gpt", "preset": "reference"} | content
        stored = LAB.config_class.from_flat(LAB.presets["reference"]).flat() | given
        path = here / "stored.json"
        path.write_text(
            json.dumps(content | {"settings": stored if settings is None else settings})
        )
        return f"--config={path}"

    return write


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [
        ({"optimizer": "sgd"}, "--optimizer=adamw", 0.01),
        ({"optimizer": "adamw"}, "--optimizer=sgd", 0.0),
        ({"optimizer": "adamw", "weight_decay": 0.3}, "--optimizer=lion", 0.3),
        ({"optimizer": "sgd"}, "--steps=3", 0.0),
    ],
)
def test_default_weight_decay_is_that_of_the_given_optimizer(write, stored, given, expected):
    settings = LAB.config_class.from_flat(stored).flat()
    invocation = cli.parse(LAB, [write(settings), given])
    assert invocation.config().optimization.weight_decay == expected


def test_settings_are_those_of_the_file_except_for_the_machine(write):
    invocation = cli.parse(LAB, [write(), "--learning_rate=0.5"])
    config = invocation.config().flat()
    expected = LAB.config_class.from_flat(LAB.presets["reference"]).flat()
    assert config == expected | {"steps": 7, "learning_rate": 0.5}
    machine = {"platform", "mesh", "coordinator", "num_processes", "process_id"}
    assert machine | {"workdir"} == {*NOT_TAKEN}
    assert str(invocation.folder().path) == "runs/gpt-reference"


def test_file_wins_over_the_preset_and_a_flag_over_both(write):
    invocation = cli.parse(LAB, ["--preset=reference", write(), "--embed_dim=64", "--num_heads=2"])
    assert invocation.preset == "reference"
    config = invocation.config()
    assert config.steps == 7
    assert config.model.context_length == LAB.config_class().model.context_length
    assert config.model.embed_dim == 64


def test_another_preset_is_refused_since_the_file_has_all_settings(write, refused, here):
    line = (
        f"speedrun differs from reference of {here / 'stored.json'}, which has all settings; leave"
    )
    assert refused("--preset=speedrun", write()) == f"--preset: {line} it out"
    with pytest.raises(ValueError, match=f"^preset: {line} it out$"):
        jl.train(LAB, preset="speedrun", config=here / "stored.json")
    # A preset that the lab no longer has cannot be given.
    assert cli.parse(LAB, ["--preset=speedrun", write(preset="gone")]).preset == "speedrun"
    assert cli.parse(LAB, [write(preset="gone")]).preset == next(iter(LAB.presets))


def test_setting_that_is_newer_than_the_file_has_its_default(write):
    quick = LAB.presets["quick"]
    settings = {name: value for name, value in quick.items() if name != "norm"}
    config = cli.parse(LAB, [write(settings, preset="quick")]).config()
    assert quick["norm"] != LAB.config_class().model.norm
    assert config.model.norm == LAB.config_class().model.norm
    assert config.model.embed_dim == quick["embed_dim"]


def test_earlier_names_are_understood(write):
    settings = LAB.config_class().flat()
    settings["width"] = settings.pop("embed_dim") * 2
    assert cli.parse(LAB, [write(settings)]).config().model.embed_dim == settings["width"]


def test_unknown_preset_of_the_file_is_left_to_the_flag(write):
    assert cli.parse(LAB, [write({"steps": 3}, preset="mine")]).preset == next(iter(LAB.presets))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"experiment": "ddpm"}, "stored.json is of a run of ddpm; one of gpt"),
        ({"sweep": "precision"}, "stored.json is of the sweep precision; one of a run below its"),
        ({"settings": {"stepz": 3}}, "stored.json: stepz: unknown setting; did you mean 'steps'?"),
        ({"settings": {"steps": -1}}, "stored.json: steps: -1 is not accepted; an integer of at"),
        (
            {"preset": 3, "settings": {}},
            "stored.json: no config.json of a run (its 'preset' is not",
        ),
    ],
)
def test_file_of_no_such_run_is_refused(content, line, write, refused, here):
    error = refused(write(**({"preset": "quick"} | content)))
    assert error.startswith("--config: ")
    assert line in error
    assert not (here / "runs").exists()


def test_file_that_is_missing_or_no_json_is_refused(refused, here):
    (here / "text.json").write_text("{")
    reason = "cannot be read (No such file or directory); the config.json of a run"
    assert refused("--config=x.json") == f"--config: x.json: {reason}"
    assert refused("--config=text.json").startswith(
        "--config: text.json: no config.json of a run ("
    )
    assert "not a file but a folder; the config.json of a run" in refused(f"--config={here}")


def test_mode_that_reads_the_run_refuses_the_file(write, refused):
    line = "--config: not accepted with --mode=sample; --mode=train"
    assert refused(write(), "--mode=sample") == line


def test_repeated_run_is_the_same(spirals):
    lab = labs.load(spirals)
    flags = ["--preset=wide", "--steps=4", "--seed=3", "--log_every=1", "--batch_size=8"]
    assert cli.run(lab, [*flags, "--platform=cpu", "--workdir=first"]) == 0
    again = ["--config=first/config.json", "--workdir=second"]
    assert cli.run(lab, again) == 0
    first, second = (RunFolder(name).read_summary() for name in ("first", "second"))
    assert first["parameters_sha256"] == second["parameters_sha256"]
    config = RunFolder("second").read_config()
    assert config["command"].endswith(" ".join(again))
    assert config["preset"] == "wide"
    # The command with the file resumes the run, which it does not when a flag differs.
    shutil.rmtree("first")
    assert cli.run(lab, ["--config=second/config.json", "--workdir=second"]) == 0
    assert cli.run(lab, [*again, "--steps=5"]) == 2
