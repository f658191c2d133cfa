"""Trains labs on meshes of eight virtual devices: `mesh_worker.py TEXT OUT NAME/DTYPE/MESH...`.

For every case it writes the differences from one device, relative to the values: of the loss and of
each gradient; in float64 also of losses and state after ten steps.
"""

import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import labs
from jaxlabs.runner import cli
from jaxlabs.training import devices
from jaxlabs.training.advance import Advance, step_inputs
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.state import leaf_names
from jaxlabs.training.step import accumulate_gradients

STEPS = 10

BLOCK = "--embed_dim=8 --num_layers=1 --num_heads=2 --mlp_dim=16"
TEXT = f"{BLOCK} --dataset=TEXT --context_length=8"
SENTENCES = f"{BLOCK} --train_sentences=64 --test_sentences=8 --warmup_steps=0"
DIGITS = "--dataset=rendered_digits"
CASES = {
    "gpt": f"gpt --preset=reference {TEXT} --dropout=0.1 --grad_accum_steps=2 --ema_decay=0.9",
    "gpt_muon": f"gpt {TEXT} --dropout=0.1 --attention_window=4 --decay_steps=1 --num_heads=4",
    "char_rnn": "char_rnn --dataset=TEXT --embed_dim=8 --hidden_size=8 --bptt_length=8 --stateful",
    "translation": f"sequence_patterns --task=translation {SENTENCES}",
    "translation_gru": f"sequence_patterns --task=translation --backbone=gru {SENTENCES}",
    "tagging": f"sequence_patterns --task=tagging --backbone=lstm {SENTENCES}",
    "autoencoder": f"autoencoder {DIGITS} --train_images=64 --hidden_size=8 --num_hidden_layers=1",
    "contrastive": f"contrastive {DIGITS} {BLOCK} --channels=2 --projection_dim=8 --warmup_steps=0",
    "ddpm": f"ddpm {DIGITS} --base_channels=4 --num_groups=2 --time_embed_dim=8 --warmup_steps=1"
    " --class_conditional --grad_accum_steps=2 --ema_decay=0.9",
    "mnist_classifier": f"mnist_classifier {DIGITS} --channels=2 --feature_dim=8 --warmup_steps=0",
    "sparse_autoencoder": "sparse_autoencoder --dataset=dead_leaves --patches=64 --patch_size=5"
    " --hidden_size=8 --eval_batch_size=64 --batch_size=64",
    "speech_lm": f"speech_lm {BLOCK} --context_length=8",
    # Without the class weights, float32 fractions whose sum depends on its order.
    "speech_classifier": f"speech_classifier {BLOCK} --context_length=8 --noclass_weights",
}
"""Flags of every lab that trains, with a small model."""


@functools.cache
def build(name, text):
    """Returns configuration, data and task of a case."""
    lab, *flags = CASES[name].replace("TEXT", text).split()
    lab = labs.load(lab)
    small = ["--steps=20", "--batch_size=16", "--eval_batch_size=16", "--steps_per_call=10"]
    config = cli.parse(lab, [*small, *flags]).config()
    data = lab.load_data(config)
    return config, data, lab.build_task(config, data.data_spec)


def cast(tree, dtype):
    """Returns a tree whose floating-point arrays have a dtype, with the same shardings."""

    def to(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.device_put(leaf.astype(dtype), leaf.sharding) if floating else leaf

    return jax.tree.map(to, tree)


@functools.cache
def measure(name, dtype, mesh, text):
    """Returns loss and gradients, and in float64 losses of and state after `STEPS` steps."""
    config, data, task = build(name, text)
    if mesh is None:
        placement = devices.data_parallel(jax.devices()[:1])
    else:
        placement = devices.mesh_sharding(mesh)
    state = cast(initial_state(task, config, placement), dtype)
    assert (state.mesh is not None) == (mesh not in (None, "data:8"))

    @jax.jit
    def gradients_of(state, dataset):
        batch, key = step_inputs(dataset, config.seed, state.step, config.batch_size)
        output, gradients = accumulate_gradients(
            task.loss, state, placement.shard_batch(batch), key
        )
        return output.loss_sum / output.weight_sum, gradients

    first = devices.to_host(gradients_of(state, placement.replicate(data.train)))
    if dtype == "float32":
        return first
    state, log = Advance(task, config, placement, data.train, STEPS)(state, STEPS)
    assert int(state.step) == STEPS
    assert not log["skipped"].any()
    return *first, log["loss"], devices.state_to_host(state)


def relative(found, expected):
    """Returns the norm of a difference, relative to the norm of what is expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-300))


def worst(found, expected, floor):
    """Returns the largest relative difference of two trees, and where it is.

    Arrays of a norm below `floor`, relative to that of all, count as zero: they are noise.
    """
    leaves = jax.tree.leaves(expected)
    norms = [np.linalg.norm(np.asarray(leaf, np.float64)) for leaf in leaves]
    rows = [
        (relative(ours, theirs), name)
        for ours, theirs, name, norm in zip(
            jax.tree.leaves(found), leaves, leaf_names(expected), norms, strict=True
        )
        if norm > floor * np.linalg.norm(norms)
    ]
    return max(rows)


def compare(name, dtype, mesh, text):
    """Returns the differences between a mesh and one device."""
    loss, gradients, *steps = measure(name, dtype, None, text)
    our_loss, our_gradients, *our_steps = measure(name, dtype, mesh, text)
    assert loss.dtype == dtype
    floor = 1e-12 if dtype == "float64" else 1e-5
    found = {
        "loss": relative(our_loss, loss),
        "gradient": worst(our_gradients, gradients, floor),
    }
    if steps:
        (losses, state), (our_losses, our_state) = steps, our_steps
        found |= {
            "losses": relative(our_losses, losses),
            "params": worst(our_state.params, state.params, floor),
            "average": worst(our_state.eval_params, state.eval_params, floor),
        }
    return found


def main(text, out, *cases):
    """Measures all cases in one process."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_enable_x64", any("float64" in case for case in cases))
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    found = {}
    for case in cases:
        found[case] = compare(*case.split("/"), text)
        print(case, found[case], flush=True)
    pathlib.Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
