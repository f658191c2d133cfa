"""Every number of every command is accepted or refused in one line, before any allocation."""

import ast
from pathlib import Path

import pytest

import jaxlabs
from jaxlabs import config, labs
from jaxlabs.benchmark import lab as benchmark
from jaxlabs.config import UserError
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.runner import cli, reproduce
from jaxlabs.training import capacity, devices

pytestmark = pytest.mark.usefixtures("reused_executables")

NAMES = [*labs.names(), "benchmark", "reproduce"]
SEEDS = ("seed", "sample_seed", "binarization_seed")
WHOLE = [2**31 - 1, 2**31, 2**32, 10**12, 10**18, 10**400, 0, -1, -(10**12), -(10**400)]
REAL = [
    1e308,
    -1e308,
    3.4e38,
    1e-320,
    -1e-320,
    0.0,
    -1.0,
    float("nan"),
    float("inf"),
    -float("inf"),
]


def lab_named(name):
    commands = {"benchmark": benchmark.STUDY, "reproduce": reproduce.suite({})}
    return commands[name] if name in commands else labs.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_numbers_are_accepted_or_refused_in_one_line(name):
    lab = lab_named(name)
    preset = dict(next(iter(lab.presets.values())))
    for flag, _ in config.settings(lab.config_class):
        kind, _ = config.value_types(lab.config_class)[flag]
        values = {int: WHOLE, float: REAL}.get(kind, [])
        for value in values:
            line = error_of(lab, preset | {flag: value})
            if line:
                assert line.startswith("--")
                assert f"--{flag}" in line
                assert "\n" not in line
            elif flag.endswith("seeds"):  # a list of them is made
                assert value <= 10_000
            elif kind is int:
                bound = {"memory_limit": 2**60} | dict.fromkeys(SEEDS, 2**32)
                assert abs(value) < 2**31 or 0 < value <= bound.get(flag, 0)
            else:
                assert abs(value) < 3.5e38


def error_of(lab, values):
    """Returns the error message of settings, or an empty string."""
    try:
        lab.config_class.from_flat(values)
    except UserError as error:
        return cli.error_line(lab, error)
    return ""


HUGE = {
    "--steps=3000000000": "--steps: 3000000000 is not accepted; an integer of at least 0 and of"
    " at most 2147483647",
    "--batch_size=1000000000000": "--batch_size: 1000000000000 is not accepted; an integer of",
    "--num_layers=100000000": "--num_layers: 100000000 is not accepted; an integer of",
    "--embed_dim=100000000": "--embed_dim: 100000000 is not accepted; an integer of",
    "--mlp_dim=2000000000": "--mlp_dim=2000000000: the state (parameters, optimizer state, EMA)",
    "--embed_dim=65536 --mlp_dim=2147483647": "--mlp_dim=2147483647: the state ",
    "--eval_batch_size=1000000000": "--eval_batch_size=1000000000: an evaluation batch needs ",
    "--steps_per_call=1000000001": "--steps_per_call: 1000000001 is not accepted; ",
}


@pytest.mark.parametrize("flags", HUGE)
def test_too_large_settings_are_refused_with_flags_and_memory(flags, refused, tiny_flags, here):
    line = refused(*tiny_flags, "--steps=4", *flags.split())
    assert line.startswith(HUGE[flags])
    if "needs" in line:
        remedy = "a smaller --eval_batch_size" if "eval_batch" in flags else "smaller values"
        memory = f"{capacity.host_memory() / 1e9:,.1f} GB"
        assert line.endswith(f"; this machine has {memory}; use {remedy}")


def test_too_large_batch_is_refused_before_the_first_evaluation(refused, tiny_flags, here, capsys):
    line = refused(*tiny_flags, "--batch_size=1000000000", "--workdir=run")
    assert line.startswith("--batch_size=1000000000: a training step needs ")
    flags = [*tiny_flags, "--steps=2", "--workdir=run"]
    assert cli.run(gpt.LAB, flags) == 0  # the refused command left no results


OTHERS = [
    ("normalization", "--train_images=99999999999", "--train_images: 99999999999 is not accepted"),
    ("attention", "--seeds=1000000000000", "--seeds: 1000000000000 is not accepted; "),
    ("reproduce", "--seeds=1000000000000", "--seeds: 1000000000000 is not accepted; "),
    (
        "autoencoder",
        "--dataset=rendered_digits --hidden_size=100000000",
        "--hidden_size=100000000: the state (parameters, optimizer state, EMA) needs ",
    ),
    (
        "char_rnn",
        "--dataset={play} --bptt_length=8 --batch_size=4 --hidden_size=100000000",
        "--hidden_size=100000000: the state ",
    ),
    (
        "normalization",
        "--dataset=rendered_digits --train_images=64 --num_eval_examples=16"
        " --hidden_size=2000000000",
        "--hidden_size=2000000000: the state of all runs needs ",
    ),
    (
        "normalization",
        "--dataset=rendered_digits --train_images=64 --num_eval_examples=16"
        " --batch_size=2000000000",
        "--batch_size=2000000000: a training step of all runs needs ",
    ),
    (
        "sparse_autoencoder",
        "--patches=2000000000 --eval_batch_size=2000000000",
        "--eval_batch_size=2000000000, --patches=2000000000: cutting patches needs 4,096.0 GB; ",
    ),
    (
        "sparse_autoencoder",
        "--dataset=dead_leaves --patch_size=99999",
        "--patch_size=99999: cutting patches needs 3,199,936.0 GB; ",
    ),
]


@pytest.mark.parametrize(("name", "flags", "line"), OTHERS)
def test_other_commands_refuse_too_large_settings(name, flags, line, capsys, play, tmp_path):
    arguments = flags.format(play=play).split()
    assert cli.run(lab_named(name), [*arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{name}: {line}")
    assert err.count("\n") == 1


def test_out_of_memory_names_the_enlarged_flags(refused, tiny_flags, monkeypatch):
    def full(mesh):
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(devices, "mesh_sharding", full)
    assert refused(*tiny_flags, "--context_length=4096", "--top_k=3") == (
        "--context_length=4096: out of memory; Unable to allocate 8.00 TiB; use smaller values"
    )


def test_perplexity_of_a_huge_loss_is_finite(play):
    task = char_rnn.build_task(
        char_rnn.CharRNNRunConfig(), CharTokenizer.from_text(play.read_text()).to_json()
    )
    assert task.derived_metrics({"loss": 1e9})["perplexity"] > 1e300


NO_FLAG = (
    "jl.check: ",
    "jl.Run.sample: ",
    "tokenizer: ",
    "training data: ",
    "unknown words ",
    "unexpected argument ",
)
"""Beginnings of messages about content, to which the caller prepends a flag or a file."""


def test_every_user_error_begins_with_a_flag_or_a_file():
    root = Path(jaxlabs.__file__).parents[1]
    files = [*(root / "jaxlabs").rglob("*.py"), *(root / "experiments").rglob("*.py")]
    for path in files:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("UserError"):
                text = ast.unparse(call.args[0]).lstrip("f'\"") if call.args else "--"
                literal = isinstance(call.args[0], ast.Constant | ast.JoinedStr)
                named = text.startswith(("--", "{", "`", *NO_FLAG))
                assert named or not literal, f"{path}, line {call.lineno}: {text}"
