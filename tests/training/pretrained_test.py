"""Training from the weights of another run or of a file, with some of them frozen."""

import json
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, run_context
from jaxlabs.runner.lab import Lab
from jaxlabs.training import trainer
from jaxlabs.training.export import export_safetensors
from jaxlabs.training.pretrained import describe, load_weights, merge
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import require_trainable

pytestmark = pytest.mark.usefixtures("here")

MODEL = {
    "embedding": {"embedding": jnp.zeros((4, 3))},
    "block": {"kernel": jnp.zeros((3, 3)), "bias": jnp.ones(3)},
    "head": {"kernel": jnp.zeros((3, 4))},
}
SOURCE = {
    "embedding.embedding": np.arange(15, dtype=np.float32).reshape(5, 3),
    "block.kernel": np.arange(9, dtype=np.float32).reshape(3, 3),
    "block.bias": np.zeros((3, 1), np.float32),
    "norm.scale": np.ones(3, np.float32),
}


@pytest.fixture
def run(make_task, make_data):
    """`run(workdir, *flags) -> (status, run folder)`: a command of the toy lab."""
    lab = Lab(
        name="toy",
        description="Next-token prediction.",
        config_class=RunConfig,
        presets={"quick": {"steps": 3, "batch_size": 8, "eval_batch_size": 8, "ema_decay": 0.9}},
        load_data=lambda config: make_data(),
        build_task=lambda config, data_spec: make_task(),
        sample=lambda *_: "sample",
        analyze=lambda *_: {},
    )
    return lambda workdir, *flags: (
        cli.run(lab, [*flags, f"--workdir={workdir}"]),
        RunFolder(workdir),
    )


def weights(path):
    return load_weights(path).arrays


def test_merge_takes_equal_names_and_the_common_part_of_other_sizes():
    merged = flatten_dict(merge(MODEL, SOURCE), sep=".")
    np.testing.assert_array_equal(merged["block.kernel"], SOURCE["block.kernel"])
    np.testing.assert_array_equal(merged["embedding.embedding"], SOURCE["embedding.embedding"][:4])
    np.testing.assert_array_equal(merged["block.bias"], np.ones(3))
    np.testing.assert_array_equal(merged["head.kernel"], np.zeros((3, 4)))
    larger = {"embedding.embedding": SOURCE["embedding.embedding"][:2, :2]}
    grown = merge(MODEL, larger)["embedding"]["embedding"]
    np.testing.assert_array_equal(grown, [[0, 1, 0], [3, 4, 0], [0, 0, 0], [0, 0, 0]])


def test_weights_of_an_earlier_version_have_present_names_unless_the_model_has_theirs():
    weights = {"reader.kernel": np.ones(2)}
    renamed = merge({"encoder": {"kernel": jnp.zeros(2)}}, weights)
    np.testing.assert_array_equal(renamed["encoder"]["kernel"], np.ones(2))
    model = {"encoder": {"kernel": jnp.zeros(2)}, "reader": {"kernel": jnp.zeros(2)}}
    kept = merge(model, weights)
    np.testing.assert_array_equal(kept["encoder"]["kernel"], np.zeros(2))
    np.testing.assert_array_equal(kept["reader"]["kernel"], np.ones(2))
    assert next(describe(model, weights)) == "taken: 1 of 2 parameters"


def test_list_says_what_is_taken_resized_initialized_and_not_used():
    assert list(describe(MODEL, SOURCE)) == [
        "taken: 1 of 4 parameters",
        "resized: embedding.embedding [5, 3] -> [4, 3], common part [4, 3] by index",
        "initialized: block.bias, head.kernel",
        "not used: norm.scale",
    ]
    with pytest.raises(UserError, match=r"^init_from: no name of its weights \(norm.scale, \.\.\."):
        list(describe(MODEL, {"norm.scale": np.ones(3)}))


def test_run_starts_from_the_average_of_another_run_and_resumes(run, capsys):
    assert run("first")[0] == 0
    capsys.readouterr()
    status, second = run("second", "--init_from=first", "--steps=0")
    assert status == 0
    assert "--init_from: taken: 5 of 5 parameters" in capsys.readouterr().err
    chex.assert_trees_all_equal(weights("second"), weights("first"))
    stored = second.read_config()
    assert stored["settings"]["init_from"] == str(RunFolder("first").path.absolute())
    assert stored["init_from"] == {"sha256": load_weights("first").sha256}
    assert run("first", "--mode=export")[0] == 0
    assert run("third", "--init_from=first/parameters.safetensors", "--steps=0")[0] == 0
    chex.assert_trees_all_equal(weights("third"), weights("first"))

    capsys.readouterr()
    assert run("second", "--init_from=third", "--steps=0")[0] == 2
    assert "init_from (stored " in capsys.readouterr().err
    RunFolder("first").checkpoints.rename("elsewhere")
    assert run("second", "--init_from=first", "--steps=0")[0] == 0  # it has its own checkpoint
    assert "taken" not in capsys.readouterr().err


def test_weights_that_have_changed_since_the_start_are_refused(run, make_task, capsys):
    params = make_task().init(jax.random.key(0))["params"]
    export_safetensors(params, "weights.safetensors", {})
    assert run("run", "--init_from=weights.safetensors")[0] == 0
    folder, replay = RunFolder("run"), ("--mode=replay", "--replay_step=1")
    assert run("run", "--init_from=weights.safetensors", *replay)[0] == 0
    folder.checkpoints.rename("elsewhere")
    (folder.path / "summary.json").unlink()
    export_safetensors(jax.tree.map(lambda leaf: 2 * leaf, params), "weights.safetensors", {})
    for flags in ((), replay):
        assert run("run", "--init_from=weights.safetensors", *flags)[0] == 2
        err = capsys.readouterr().err.splitlines()[-1]
        assert err.startswith("toy: --init_from: ")
        assert err.endswith("has changed since the run was started")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nowhere", "nowhere: no such file; a file of --mode=export is needed"),
        ("empty", "empty: neither a run folder nor a .safetensors file"),
        ("text", "a file of --mode=export is needed"),
        ("https://example.org/x", "a path on this machine, not a URL"),
    ],
)
def test_source_that_cannot_be_read_gives_one_line(run, here, capsys, path, line):
    (here / "empty").mkdir()
    (here / "text").write_text("text")
    assert run("run", f"--init_from={path}")[0] == 2
    err = capsys.readouterr().err
    assert err.startswith("toy: --init_from: ")
    assert err.endswith(f"{line}\n")
    assert err.count("\n") == 1
    assert not (here / "run" / "config.json").exists()


def test_file_of_another_library_is_read(here):
    arrays = {"block": np.ones(3, np.float32), "block.kernel": np.zeros((2, 2), np.float32)}
    safetensors.numpy.save_file(arrays, here / "weights.safetensors", {"format": "pt"})
    chex.assert_trees_all_equal(weights("weights.safetensors"), arrays)


READ_ALONE = """
import sys
from jaxlabs.training import devices
from jaxlabs.training.pretrained import load_weights
port, number = sys.argv[1], int(sys.argv[2])
devices.start("cpu", f"localhost:{port}", 2, number)
if number == 0:
    print(load_weights("first").sha256)
"""


def test_one_of_two_processes_reads_a_run_alone(run, free_port, run_together):
    assert run("first")[0] == 0
    command = [sys.executable, "-c", READ_ALONE, str(free_port())]
    outputs = run_together([[*command, str(number)] for number in range(2)], timeout=120)
    assert [text for text, _ in outputs] == [load_weights("first").sha256 + "\n", ""]


def test_weights_are_read_once(run, monkeypatch):
    assert run("first")[0] == 0
    calls = []

    def counted(path):
        calls.append(path)
        return load_weights(path)

    for module in (trainer, run_context):
        monkeypatch.setattr(module, "load_weights", counted)
    assert run("second", "--init_from=first", "--steps=0")[0] == 0
    assert len(calls) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parameters_keep_every_bit(run, optimizer, make_task, here):
    params = make_task().init(jax.random.key(0))["params"]
    params["block"]["bias"] = params["block"]["bias"].at[0].set(-0.0)
    export_safetensors(params, "weights.safetensors", {})
    flags = ["--init_from=weights.safetensors", r"--freeze=^block|head\.bias", "--steps=8"]
    flags += [f"--optimizer={optimizer}", "--weight_decay=0.5", "--learning_rate=0.1"]
    assert run("run", *flags)[0] == 0
    before, after = flatten_dict(params, sep="."), weights("run")
    for name in before:
        same = np.asarray(before[name]).tobytes() == after[name].tobytes()
        assert same == (name in ("block.kernel", "block.bias", "head.bias")), name
    settings = json.loads((here / "run" / "config.json").read_text())["settings"]
    assert settings["freeze"] == r"^block|head\.bias"


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("encoder", r"^freeze: 'encoder' is found in no parameter; some are block.bias, "),
        (".", r"^freeze: '\.' is found in every parameter; none is trained"),
    ],
)
def test_pattern_must_be_found_in_some_parameters(make_task, make_data, make_config, pattern, line):
    with pytest.raises(UserError, match=line):
        require_trainable(make_task(), make_config(freeze=pattern), make_data().train)


def test_invalid_pattern_gives_one_line(make_config):
    with pytest.raises(UserError, match=r"^freeze: '\(' is not a regular expression: missing \)"):
        make_config(freeze="(")
