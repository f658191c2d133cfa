"""Global JAX settings of the user's shell do not change a run; its steps are lowered elsewhere.

A command fixes all settings that change numbers, so that runs are bit-identical. Training steps
also work without that: with x64 enabled and strict dtype promotion they stay float32. For samplers
see `tests/decoding` and `tests/diffusion`.
"""

import jax
import numpy as np
import pytest

from jaxlabs import keys
from jaxlabs.data.batches import eval_batch
from jaxlabs.labs.autoencoder import lab as autoencoder
from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.contrastive import lab as contrastive
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.mnist_classifier import lab as mnist_classifier
from jaxlabs.labs.sequence_patterns import lab as sequence_patterns
from jaxlabs.labs.sparse_autoencoder import lab as sparse_autoencoder
from jaxlabs.labs.speech_classifier import lab as speech_classifier
from jaxlabs.labs.speech_lm import lab as speech_lm
from jaxlabs.layers.cpu import dispatch
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training import devices, precision
from jaxlabs.training.advance import build_multi_step
from jaxlabs.training.initial_state import abstract_state
from jaxlabs.training.param_labels import DECAYED, HIDDEN, label_params
from jaxlabs.training.state import leaf_names

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

SMALL_BLOCK = "--embed_dim=8 --num_layers=1 --num_heads=2 --mlp_dim=8"
CHARACTERS = f"{SMALL_BLOCK} --context_length=8 --max_new_tokens=12 --dropout=0.1"
SENTENCES = f"{SMALL_BLOCK} --train_sentences=64 --test_sentences=8 --warmup_steps=0 --beam_size=2"
DIGITS = "--dataset=rendered_digits"
TINY = {
    "gpt": (gpt.LAB, f"--preset=reference --dataset=TEXT {CHARACTERS} --grad_accum_steps=2"),
    "gpt_modern": (gpt.LAB, f"--dataset=TEXT {CHARACTERS} --attention_window=4 --decay_steps=1"),
    "char_rnn": (
        char_rnn.LAB,
        "--dataset=TEXT --embed_dim=4 --hidden_size=8 --bptt_length=8 --stateful",
    ),
    "translation_gru": (sequence_patterns.LAB, f"--task=translation --backbone=gru {SENTENCES}"),
    "translation": (sequence_patterns.LAB, f"--task=translation {SENTENCES}"),
    "tagging": (sequence_patterns.LAB, f"--task=tagging --backbone=lstm {SENTENCES}"),
    "sentiment": (sequence_patterns.LAB, f"--task=sentiment --backbone=rnn {SENTENCES}"),
    "autoencoder": (
        autoencoder.LAB,
        f"{DIGITS} --train_images=64 --hidden_size=8 --num_hidden_layers=1",
    ),
    "contrastive": (
        contrastive.LAB,
        f"{DIGITS} {SMALL_BLOCK} --channels=2 --projection_dim=8 --num_eval_examples=12"
        " --max_translation=1"
        " --warmup_steps=0 --prompt=thin",
    ),
    "ddpm": (
        ddpm.LAB,
        f"{DIGITS} --base_channels=4 --num_groups=2 --time_embed_dim=4 --grad_accum_steps=1"
        " --num_eval_examples=16"
        " --warmup_steps=1 --num_samples=4 --sampler_steps=4 --class_conditional"
        " --guidance_scale=2",
    ),
    "mnist_classifier": (
        mnist_classifier.LAB,
        f"{DIGITS} --channels=2 --feature_dim=8 --ema_decay=0.5 --warmup_steps=0"
        " --max_translation=1",
    ),
    "sparse_autoencoder": (
        sparse_autoencoder.LAB,
        "--dataset=dead_leaves --patches=64 --patch_size=5 --hidden_size=6 --eval_batch_size=64"
        " --batch_size=64",
    ),
    "speech_lm": (speech_lm.LAB, f"{SMALL_BLOCK} --context_length=8 --attention_window=3"),
    "speech_classifier": (speech_classifier.LAB, f"{SMALL_BLOCK} --context_length=8"),
}
QUICK = {"gpt", "char_rnn", "translation_gru", "tagging", "ddpm"}


def tiny_run(name, play):
    """Config, data and task of a lab."""
    lab, flags = TINY[name]
    small = [] if "--batch_size" in flags else ["--batch_size=8", "--eval_batch_size=8"]
    flags = ["--steps=2", *small, *flags.replace("TEXT", str(play)).split()]
    config = cli.parse(lab, flags).config()
    data = lab.load_data(config)
    return config, data, lab.build_task(config, data.data_spec)


def traced(name, play):
    """Shapes and dtypes of the training steps of a lab and of its evaluation loss."""
    config, data, task = tiny_run(name, play)
    placement = devices.data_parallel(jax.devices()[:1])

    def evaluated(state, examples):
        batch = eval_batch(examples, 0, batch_size=config.eval_batch_size)
        key = keys.stream(0, "evaluation")
        variables = state.variables(state.eval_params)
        return task.loss(task.model, variables, batch, key, train=False)

    state = abstract_state(task, config, placement)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    multi_step = build_multi_step(task, config, placement, state)
    trained = jax.eval_shape(multi_step, state, data.train, np.int32(2), np.uint32(0))
    return trained, jax.eval_shape(evaluated, state, next(iter(data.eval_sets.values())))


PARAMETRIZED = pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TINY],
)


@PARAMETRIZED
def test_every_parameter_has_the_label_of_its_role(name, play):
    """AdamW decays what mixes features; Muon takes no embedding, no table and no head."""
    task = tiny_run(name, play)[2]
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    labels = jax.tree.leaves(label_params(params))
    for path, leaf, label in zip(leaf_names(params), jax.tree.leaves(params), labels, strict=True):
        assert (label in DECAYED) == (leaf.ndim in (2, 4)), path
        if label == HIDDEN:
            assert {"embedding", "table", "head", "input", "output"}.isdisjoint(path.split("."))


@pytest.mark.parametrize(
    ("name", "coupled"), [("contrastive", True), ("sparse_autoencoder", True), ("gpt", False)]
)
def test_losses_that_depend_on_the_other_examples_say_so(name, coupled, play):
    assert tiny_run(name, play)[2].batch_coupled == coupled


@PARAMETRIZED
def test_steps_stay_float32_with_x64_and_strict_promotion(name, play):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        (state, log), parts = traced(name, play)
    # The optimizer state beside the moments is up to optax.
    ours = state.replace(opt_state=None), log, parts
    wide = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(ours)
        if leaf.dtype == np.float64
    }
    assert wide == set()


@PARAMETRIZED
def test_steps_are_lowered_for_gpus_and_tpus_without_the_forms_of_cpus(name, play, lower_elsewhere):
    config, data, _ = tiny_run(name, play)
    config = precision.with_precision(config, {precision.DTYPE_SETTING: "bfloat16"})  # as `auto`
    task = TINY[name][0].build_task(config, data.data_spec)
    placement = devices.data_parallel(jax.devices()[:1])
    state = abstract_state(task, config, placement)
    step = build_multi_step(task, config, placement, state)
    arguments = state, data.train, np.int32(2), np.uint32(0)
    elsewhere = lower_elsewhere(step, *arguments)
    assert ("bf16" in elsewhere) == (precision.DTYPE_SETTING in config.flat())
    on_cpu = step.trace(*arguments).lower(lowering_platforms=("cpu",))
    assert dispatch.CPU_SCOPE in on_cpu.as_text(debug_info=True)  # each has at least one


HOSTILE = {
    "enable_x64": True,
    "numpy_dtype_promotion": "strict",
    "default_prng_impl": "rbg",
    "threefry_partitionable": False,
    "default_matmul_precision": "bfloat16",
    "disable_jit": True,
}


@pytest.fixture
def hostile_settings():
    """Sets everything as a shell could, for all threads."""
    before = {name: getattr(jax.config, f"jax_{name}") for name in HOSTILE}
    before["random_seed_offset"] = jax.config.jax_random_seed_offset
    for name, value in (HOSTILE | {"random_seed_offset": 5}).items():
        jax.config.update(f"jax_{name}", value)
    yield
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)


def ended(flags, folder):
    flags = [*flags, "--steps=4", "--dropout=0.2", f"--workdir={folder}"]
    assert cli.run(gpt.LAB, flags) == 0
    return RunFolder(folder).read_summary(), flags


@pytest.fixture(scope="module")
def plain_run(tiny_flags, tmp_path_factory):
    """Summary and flags of a run without shell settings."""
    return ended(tiny_flags, tmp_path_factory.mktemp("plain") / "run")


def test_run_is_bit_identical_under_shell_settings(
    plain_run, hostile_settings, tiny_flags, tmp_path
):
    expected, _ = plain_run
    with jax.enable_x64(True), jax.default_matmul_precision("bfloat16"):
        found, _ = ended(tiny_flags, tmp_path / "hostile")
    assert found["parameters_sha256"] == expected["parameters_sha256"]
    assert found["metrics"] == expected["metrics"]


def test_run_resumes_only_with_its_own_xla_flags(plain_run, monkeypatch, capsys):
    _, flags = plain_run
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    assert cli.run(gpt.LAB, flags) == 0
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere --xla_cpu_enable_fast_math=true")
    capsys.readouterr()
    assert cli.run(gpt.LAB, flags) == 2
    assert capsys.readouterr().err == (
        "gpt: XLA_FLAGS: '--xla_cpu_enable_fast_math=true' would change the results of the"
        " stored run, which started with ''; restore that value, use another --workdir, or"
        " --overwrite\n"
    )
