"""The public API: lazy names; runs that are trained and loaded from Python equal the command's."""

import ast
import contextlib
import dataclasses
import io
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import jaxlabs as jl
from jaxlabs.config import UserError
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.lab import StudyResult
from jaxlabs.training.run_config import CommonConfig

TIME_FIELDS = ("seconds", "steps_per_second")


@pytest.fixture(scope="module")
def tiny(tiny_flags):
    """The settings of `tiny_flags` as keywords."""
    values = dict(flag.removeprefix("--").split("=", 1) for flag in tiny_flags)
    return {name: int(value) if value.isdigit() else value for name, value in values.items()}


@pytest.fixture(scope="module")
def by_command(tiny_flags, reused_executables, tmp_path_factory):
    """A run of 8 steps, trained by the command."""
    folder = RunFolder(tmp_path_factory.mktemp("command") / "run")
    assert cli.run(LAB, [*tiny_flags, "--steps=8", f"--workdir={folder.path}"]) == 0
    return folder


@pytest.fixture(scope="module")
def by_call(tiny, reused_executables, tmp_path_factory):
    """The same run, trained by a call."""
    return jl.train("gpt", steps=8, workdir=tmp_path_factory.mktemp("call") / "run", **tiny)


def process_state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return dict(jax.config.values), handlers, sys.stdout, sys.stderr


def test_import_is_quick_and_imports_no_jax():
    code = (
        "import sys, time; start = time.process_time(); import jaxlabs;"
        "print(time.process_time() - start, 'jax' in sys.modules, 'numpy' in sys.modules)"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, *imported = zip(*(output.stdout.split() for output in outputs), strict=True)
    assert min(map(float, seconds)) < 0.2
    assert {name for names in imported for name in names} == {"False"}


def test_every_public_name_is_found_and_listed():
    assert set(jl.__all__) <= set(dir(jl))
    for name in jl.__all__:
        assert getattr(jl, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        jl.trian  # noqa: B018


def test_type_checkers_see_the_public_names():
    (block,) = (
        node for node in ast.parse(Path(jl.__file__).read_text()).body if isinstance(node, ast.If)
    )
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {
        alias.asname: "jaxlabs.keys" if node.module == "jaxlabs" else node.module
        for node in block.body
        for alias in node.names
    }
    assert seen == {name: jl._MODULES[name] for name in jl.__all__}
    assert (Path(jl.__file__).parent / "py.typed").exists()


def test_call_and_command_give_the_same_run(by_call, by_command):
    ours, theirs = by_call.summary, by_command.read_summary()
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]
    rows = [
        [{k: v for k, v in row.items() if k not in TIME_FIELDS} for row in found]
        for found in (by_call.metrics, by_command.read_metrics())
    ]
    assert rows[0] == rows[1]
    settings = [
        RunFolder(path).read_config()["settings"] for path in (by_call.path, by_command.path)
    ]
    assert settings[0] | {"workdir": None} == settings[1] | {"workdir": None}


def test_stored_command_repeats_the_call(by_call):
    command = RunFolder(by_call.path).read_config()["command"].split()
    flags = command[next(i for i, word in enumerate(command) if word.startswith("--")) :]
    assert cli.run(LAB, flags) == 0  # the same settings: it is already complete


def test_a_call_neither_changes_settings_of_the_process_nor_depends_on_them(
    tiny, by_call, tmp_path
):
    jax.config.update("jax_default_device", jax.devices()[1])
    try:
        before = process_state()
        with contextlib.redirect_stdout(io.StringIO()) as out, jax.threefry_partitionable(False):
            first = jl.train("gpt", steps=8, workdir=tmp_path / "a", platform="cpu", **tiny)
            second = jl.train("gpt", steps=8, workdir=tmp_path / "b", platform="cpu", **tiny)
        assert process_state() == before
    finally:
        jax.config.update("jax_default_device", None)
    assert "report" not in out.getvalue()
    assert "held_out_loss" not in out.getvalue()
    for run in (first, second):
        assert run.summary["parameters_sha256"] == by_call.summary["parameters_sha256"]


def test_a_refused_call_leaves_the_process_as_it_was(tiny, tmp_path):
    before = process_state()
    with pytest.raises(ValueError, match=r"^num_heads: 2 does not divide"):
        jl.train("gpt", workdir=tmp_path / "run", **tiny | {"embed_dim": 15})
    assert process_state() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_with_a_checkpoint_and_the_same_call_resumes(number, tiny, by_call, tmp_path):
    received = []

    def sample(config, task, data_spec, state, key):
        if int(state.step) == 4 and not sample.sent:
            sample.sent = True
            signal.raise_signal(number)
        return LAB.sample(config, task, data_spec, state, key)

    sample.sent = False
    lab = dataclasses.replace(LAB, sample=sample)
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(signal.SIGTERM))
    try:
        with pytest.raises(KeyboardInterrupt, match="at step 4/8, checkpoint saved"):
            jl.train(lab, steps=8, workdir=tmp_path / "run", **tiny)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] * (number == signal.SIGTERM)
    stopped = jl.load_run(tmp_path / "run")
    assert stopped.step == 4
    assert "incomplete" in repr(stopped)
    run = jl.train(lab, steps=8, workdir=tmp_path / "run", **tiny)
    assert run.summary["parameters_sha256"] == by_call.summary["parameters_sha256"]


def test_what_a_lab_and_a_callback_print_is_shown_and_the_results_are_not(tiny, tmp_path, capsys):
    def sample(*arguments):
        print("the lab samples")
        return LAB.sample(*arguments)

    def callback(step, state, metrics):
        print("the callback is called")

    lab = dataclasses.replace(LAB, sample=sample, callbacks=(callback,))
    run = jl.train(lab, steps=1, workdir=tmp_path / "run", **tiny)
    jl.train(lab, steps=1, workdir=tmp_path / "run", **tiny)  # it is already complete
    out = capsys.readouterr().out
    assert "the lab samples\n" in out
    assert "the callback is called\n" in out
    for text in (
        "report",
        "held_out_loss",
        (run.path / "samples" / "final.txt").read_text().strip(),
    ):
        assert text not in out


def test_a_thread_can_train(tiny, by_call, tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(jl.train("gpt", steps=8, workdir=tmp_path / "run", **tiny))
    )
    thread.start()
    thread.join()
    assert runs[0].summary["parameters_sha256"] == by_call.summary["parameters_sha256"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"step": 3}, "step: unknown setting; did you mean 'steps'?"),
        ({"steps": "3"}, "steps: '3' is not accepted; an integer"),
        ({"optimizer": "adamv"}, "optimizer: 'adamv' is not accepted; one of "),
        ({"optimizer": "sgd", "adam_b2": 0.9}, "adam_b2: "),
        ({"preset": "quik"}, "preset: 'quik' is not accepted; one of quick, reference"),
        ({"num_processes": 2, "coordinator": "localhost:1"}, "num_processes: 2 is not accepted; 1"),
        ({"steps": 3}, "workdir: the run in "),
        ({"platform": "tpu"}, "platform: 'tpu' is not a"),
    ],
)
def test_wrong_argument_is_refused_in_a_line_without_dashes(settings, line, tiny, by_call):
    settings = tiny | {"steps": 8, "workdir": by_call.path} | settings
    with pytest.raises(ValueError, match="^" + line.replace("?", r"\?")) as caught:
        jl.train("gpt", **settings)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batch_that_does_not_divide_over_the_devices_is_refused(tiny, tmp_path):
    settings = tiny | {"batch_size": 6, "steps": 8, "workdir": tmp_path / "run"}
    with pytest.raises(ValueError, match=r"^batch_size: 6 does not divide over [^\n]*$"):
        jl.train("gpt", **settings)


def test_commands_in_a_message_are_whole_and_as_typed(tiny, tmp_path):
    def build_task(config, data_spec):
        raise UserError("no classifier; train it with python -m experiments.gpt --steps=3 --seed=1")

    lab = dataclasses.replace(LAB, build_task=build_task)
    with pytest.raises(ValueError, match=r"it with jaxlabs gpt --steps=3 --seed=1$"):
        jl.train(lab, workdir=tmp_path / "run", **tiny)


def test_settings_of_a_stored_run_are_repeated(tiny, by_call):
    config = by_call.path / "config.json"
    run = jl.train("gpt", config=config, workdir=by_call.path)  # it is already complete
    assert run.config == by_call.config
    with pytest.raises(ValueError, match=r"steps \(stored 8, given 9\)"):
        jl.train("gpt", config=config, workdir=by_call.path, steps=9)
    with pytest.raises(ValueError, match=r"^config: .* is of a run of gpt; one of char_rnn"):
        jl.train("char_rnn", config=config)


def test_numpy_scalars_and_paths_are_accepted(tiny, by_call):
    run = jl.train("gpt", workdir=by_call.path, **tiny | {"steps": np.int64(8)})
    assert run.config.steps == 8
    assert run.config.workdir == str(by_call.path)


def test_loaded_run_has_the_trained_model(by_call):
    run = jl.load_run(by_call.path)
    assert run.lab.name == "gpt"
    assert run.step == 8
    assert run.config.model.embed_dim == 16
    tokens = np.zeros((1, 4), np.int32)
    logits = run.model.apply(run.variables, tokens)
    assert logits.shape[:2] == (1, 4)
    chex.assert_trees_all_equal(run.params, by_call.params)
    assert run.data.monitor == "held_out"


def test_checkpoint_is_chosen_by_name_or_step(tiny, tmp_path):
    path = tmp_path / "run"
    jl.train("gpt", steps=8, workdir=path, **tiny | {"learning_rate": 3.0, "keep_checkpoints": 3})
    losses = {
        row["step"]: row["loss"]
        for row in jl.load_run(path).metrics
        if row["split"] == "held_out" and row["step"]
    }
    best = min(losses, key=losses.__getitem__)
    assert jl.load_run(path, "best").step == best
    assert jl.load_run(path, checkpoint=4).step == 4
    assert jl.load_run(path, checkpoint=np.int64(4)).step == 4
    assert jl.load_run(path).step == 8
    with pytest.raises(ValueError, match=r"^checkpoint: 5 is not accepted; latest, best, 4, 8$"):
        jl.load_run(path, 5).state  # noqa: B018
    with pytest.raises(ValueError, match=r"^checkpoint: 'newest' is not accepted; latest, best"):
        jl.load_run(path, "newest")
    with pytest.raises(ValueError, match=r"^stepz: unknown setting; did you mean 'steps'\?$"):
        jl.load_run(path, stepz=3).state  # noqa: B018


def test_damaged_checkpoint_is_replaced_if_it_is_the_latest_and_refused_by_its_number(
    tiny, tmp_path
):
    path = tmp_path / "run"
    jl.train("gpt", steps=8, workdir=path, **tiny | {"keep_checkpoints": 3})
    shutil.rmtree(RunFolder(path).checkpoints / "8" / "state")
    hook = sys.unraisablehook
    with pytest.raises(ValueError, match=r"^checkpoint: the one of step 8 in .* is damaged; lat"):
        jl.load_run(path, 8).state  # noqa: B018
    assert jl.load_run(path).step == 4
    assert sys.unraisablehook is hook


def test_samples_are_those_of_the_command(by_call, capsys):
    texts = by_call.sample("ROMEO:", temperature=0.5, num_samples=2, sample_seed=3)
    flags = ["--prompt=ROMEO:", "--temperature=0.5", "--num_samples=2", "--sample_seed=3"]
    capsys.readouterr()
    assert cli.run(LAB, ["--mode=sample", f"--workdir={by_call.path}", *flags]) == 0
    assert capsys.readouterr().out == "\n----------\n".join(texts) + "\n"
    assert all(text.startswith("ROMEO:") for text in texts)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"temprature": 1}, "temprature: not a setting of sampling; did you mean 'temperature'?"),
        ({"seed": 1}, "seed: not a setting of sampling; "),
        ({"temperature": "hot"}, "temperature: 'hot' is not accepted; a number"),
        ({"prompt": "#"}, "prompt: "),
    ],
)
def test_wrong_setting_of_sampling_is_refused(settings, line, by_call):
    with pytest.raises(ValueError, match="^" + line.replace("?", r"\?")):
        by_call.sample(**settings)


def test_evaluation_gives_the_final_metrics(by_call):
    metrics = by_call.evaluate()
    for split, values in metrics.items():
        for name, value in values.items():
            assert value == by_call.summary["metrics"][f"{split}_{name}"]
    assert {"held_out", "sliding_window"} <= metrics.keys()


def test_run_shows_itself(by_call):
    loss = by_call.summary["metrics"]["held_out_loss"]
    assert repr(by_call) == (
        f"<Run {by_call.path}: gpt, preset reference, 8 steps, held_out_loss {loss:.4g}>"
    )
    card = by_call._repr_html_()
    assert "held out loss" in card
    assert "data:image/png;base64," in card
    report = by_call.report()
    assert report == by_call.path / "report.html"
    assert "held out loss" in report.read_text()


def test_run_of_a_study_has_metrics_and_no_model(tmp_path):
    study = jl.Study(
        name="toy_study",
        description="Measures a seed.",
        config_class=CommonConfig,
        presets={"quick": {}},
        measure=lambda config, folder: StudyResult({"twice": 2.0 * config.seed}, "measured"),
    )
    jl.train(study, seed=4, workdir=tmp_path / "run")
    run = jl.load_run(tmp_path / "run", lab=study)
    assert run.metrics == [{"twice": 8.0}]
    assert run.config.seed == 4
    assert repr(run).endswith("toy_study, preset quick, twice 8>")
    assert run.report().exists()
    assert "twice" in run._repr_html_()
    for use in (lambda: run.params, run.sample, run.evaluate, lambda: run.data):
        with pytest.raises(ValueError, match="toy_study is a study, which trains no model; config"):
            use()


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^workdir: .* holds no config.json"):
        jl.load_run(tmp_path)
