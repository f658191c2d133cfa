"""What the settings that people give JAX once for all, in their shell, do to a run: nothing.

A command holds those that change numbers at values of its own. Steps and samplers also work without
it: with 64-bit numbers switched on, where models stay float32 and give what they give without, but
for rounding, and under strict promotion of dtypes.
"""

import jax
import numpy as np
import pytest

from experiments import (
    autoencoder,
    char_rnn,
    contrastive,
    ddpm,
    gpt,
    mnist_classifier,
    sequence_patterns,
    sparse_autoencoder,
    speech_classifier,
    speech_lm,
)
from jaxlabs import command, keys
from jaxlabs.training import devices
from jaxlabs.training.evaluation import Evaluator
from jaxlabs.training.loop import initial_state
from jaxlabs.training.run_steps import build_run_steps

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL_BLOCK = "--width=8 --layers=1 --heads=2 --ffn_width=8"
CHARACTERS = f"{SMALL_BLOCK} --context=8 --max_new_tokens=12 --dropout=0.1"
SENTENCES = f"{SMALL_BLOCK} --train_sentences=64 --test_sentences=8 --warmup_steps=0 --beam=2"
DIGITS = "--dataset=rendered_digits"
TINY = {
    "gpt": (gpt.LAB, f"--preset=reference --dataset=TEXT {CHARACTERS} --micro_batches=2"),
    "gpt_modern": (gpt.LAB, f"--dataset=TEXT {CHARACTERS} --attention_window=4 --decay_steps=1"),
    "char_rnn": (char_rnn.LAB, "--dataset=TEXT --embedding=4 --hidden=8 --context=8 --carry_state"),
    "translation_gru": (sequence_patterns.LAB, f"--task=translation --backbone=gru {SENTENCES}"),
    "translation": (sequence_patterns.LAB, f"--task=translation {SENTENCES}"),
    "tagging": (sequence_patterns.LAB, f"--task=tagging --backbone=lstm {SENTENCES}"),
    "sentiment": (sequence_patterns.LAB, f"--task=sentiment --backbone=rnn {SENTENCES}"),
    "autoencoder": (autoencoder.LAB, f"{DIGITS} --train_images=64 --hidden=8 --hidden_layers=1"),
    "contrastive": (
        contrastive.LAB,
        f"{DIGITS} {SMALL_BLOCK} --channels=2 --embedding_width=8 --test_pairs=12 --shift=1"
        " --warmup_steps=0 --prompt=thin",
    ),
    "ddpm": (
        ddpm.LAB,
        f"{DIGITS} --width=4 --groups=2 --time_width=4 --micro_batches=1 --evaluated_images=16"
        " --warmup_steps=1 --num_samples=4 --sampler_steps=4 --class_conditional --guidance=2",
    ),
    "mnist_classifier": (
        mnist_classifier.LAB,
        f"{DIGITS} --channels=2 --feature_width=8 --ema_decay=0.5 --warmup_steps=0 --shift=1",
    ),
    "sparse_autoencoder": (
        sparse_autoencoder.LAB,
        "--dataset=dead_leaves --patches=64 --patch_size=5 --hidden=6 --eval_batch_size=64"
        " --batch_size=64",
    ),
    "speech_lm": (speech_lm.LAB, f"{SMALL_BLOCK} --context=8 --attention_window=3"),
    "speech_classifier": (speech_classifier.LAB, f"{SMALL_BLOCK} --context=8"),
}


def carried_out(lab, flags):
    """Two training steps, an evaluation and a sample of a lab, by its own functions."""
    config = command.parse(lab, ["--steps=2", *flags]).config()
    data = lab.load_data(config)
    task = lab.build_task(config, data.vocabulary)
    placement = devices.data_parallel(jax.devices()[:1])
    state = initial_state(task, config, placement)
    run_steps = build_run_steps(task, config, placement)
    train = placement.replicate(data.train)
    state, log = run_steps(state, train, np.int32(2), np.uint32(0))
    figures = Evaluator(task, placement, config)(state, next(iter(data.evaluations.values())))
    state = devices.to_host(state)
    sample = lab.sample(config, task, data.vocabulary, state, keys.stream(0, "sample"))
    return state, jax.device_get(log), figures, sample


def flags_of(name, play):
    lab, flags = TINY[name]
    small = [] if "--batch_size" in flags else ["--batch_size=8", "--eval_batch_size=8"]
    return lab, [*small, *flags.replace("TEXT", str(play)).split()]


@pytest.mark.parametrize("name", TINY)
def test_x(name, play):
    import time

    s = time.time()
    lab, flags = flags_of(name, play)
    plain = carried_out(lab, flags)
    print(name, "plain", time.time() - s, plain[2])
    for c in (jax.enable_x64(True), jax.numpy_dtype_promotion("strict")):
        s = time.time()
        try:
            with c:
                other = carried_out(lab, flags)
            bad = [
                (jax.tree_util.keystr(p), a.dtype, b.dtype)
                for (p, a), b in zip(
                    jax.tree_util.tree_leaves_with_path(plain[:2]), jax.tree.leaves(other[:2])
                )
                if a.dtype != b.dtype
            ]
            print(name, c, time.time() - s, other[2], bad)
            for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other)):
                if isinstance(a, str):
                    print(a == b)
                else:
                    if not np.allclose(a, b, rtol=1e-3, atol=1e-4):
                        print("DIFF", np.abs(np.asarray(a) - b).max())
        except Exception as e:
            import traceback

            tb = [
                f
                for f in traceback.extract_tb(e.__traceback__)
                if "wt/envs" in f.filename or "optax" in f.filename or "flax" in f.filename
            ]
            print(
                "FAILED",
                name,
                c,
                type(e).__name__,
                str(e)[:300],
                [f"{f.filename[-40:]}:{f.lineno} {f.line}" for f in tb[-4:]],
            )
