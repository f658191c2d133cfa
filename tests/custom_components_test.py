"""The examples of docs/guides/custom-components.md run as they stand."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxlabs import labs
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import check, cli, new
from jaxlabs.training.pretrained import load_weights

GUIDE = (Path(__file__).parents[1] / "docs/guides/custom-components.md").read_text("utf-8")
FILES = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
}
FLAGS = ["--steps=8", "--eval_every=4", "--log_every=1", "--hidden_size=8", "--workdir=run"]


@pytest.fixture(autouse=True)
def my_lab(tmp_path, monkeypatch):
    """The file `my_lab.py` in the working directory, importable for this test alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "my_lab.py"
    path.write_text(new.content("my_lab.py", "my_lab"), "utf-8")
    yield path
    sys.modules.pop("my_lab", None)


def run(name, *flags):
    Path(name).write_text(FILES[name], "utf-8")
    assert cli.run(labs.load(name), [*FLAGS, *flags]) == 0
    return RunFolder("run")


def rows(folder, split):
    return [row for row in folder.read_metrics() if row["split"] == split]


def test_every_example_is_tested():
    assert FILES.keys() == {
        "my_optimizer.py",
        "my_labels.py",
        "my_generator.py",
        "my_files.py",
        "my_pipeline.py",
        "my_records.py",
        "my_callback.py",
    }


def test_optimizer_of_the_guide_is_stored_and_logs_its_rate():
    folder = run("my_optimizer.py")
    assert folder.read_config()["optimizer"] == "adabelief"
    rates = [row["learning_rate"] for row in rows(folder, "train")]
    np.testing.assert_allclose(rates[:6], 0.002 * np.arange(6), atol=1e-8)


def test_labels_of_the_guide_know_a_parameter_of_their_own():
    run("my_labels.py")
    lab = labs.load("my_labels.py")
    config = lab.config_class(platform="cpu")
    label_fn = lab.build_task(config, lab.load_data(config).data_spec).label_fn
    assert label_fn({"gain": 0, "hidden": {"kernel": 0}}) == {
        "gain": "vector",
        "hidden": {"kernel": "hidden"},
    }


@pytest.mark.parametrize(
    "name", ["my_generator.py", "my_files.py", "my_pipeline.py", "my_records.py"]
)
def test_data_of_the_guide_train(name):
    if name in ("my_pipeline.py", "my_records.py"):
        pytest.importorskip("grain")
    if name == "my_records.py":
        pytest.importorskip("array_record")
    folder = run(name, "--learning_rate=0.01")
    losses = [row["loss"] for row in rows(folder, "test")]
    assert losses[-1] < losses[0]


def test_callback_of_the_guide_logs_the_norm():
    assert [row["weight_norm"] > 0 for row in rows(run("my_callback.py"), "test")] == [True] * 3


def test_commands_of_the_guide_start_from_weights_and_freeze_them(my_lab, capsys):
    commands = [shlex.split(line) for line in re.findall(r"^jaxlabs my_lab.py .*$", GUIDE, re.M)]
    assert len(commands) == 2
    for _, path, *flags in commands:
        assert cli.run(labs.load(path), flags) == 0
    assert "--init_from: taken: 6 of 6 parameters" in capsys.readouterr().err
    first, second = (load_weights(f"runs/{name}").arrays for name in ("first", "second"))
    same = {name for name in first if np.array_equal(first[name], second[name])}
    assert same == {f"layers_{i}.{name}" for i in (0, 2) for name in ("kernel", "bias")}


def test_lines_of_the_check_are_those_of_the_guide():
    table = GUIDE[GUIDE.index("| line | PASS if |") :]
    names = re.findall(r"^\| ([^|]+?) \|", table, re.M)[1:]
    described = re.findall(r"^(\S.*?) {2,}\S", check.__doc__.split("\n\n")[2], re.M)
    assert names == described
