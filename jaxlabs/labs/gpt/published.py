"""Published results of the character GPT."""

import functools

from jaxlabs.published import Published

_write_up = functools.partial(
    Published,
    presets=("reference",),
    source="course write-up of the character GPT lab (unpublished)",
)
_nanogpt = functools.partial(Published, metric="held_out_loss", unit="nats")
NANOGPT = "README of karpathy/nanoGPT"

PUBLISHED_RESULTS = (
    _write_up(
        quantity="parameters",
        metric="parameters",
        value=10_690_625,
        unit="parameters",
        note="65 characters; position encodings are fixed, without parameters",
    ),
    _write_up(
        quantity="training loss after 2000 steps",
        metric="train_loss",
        value=1.155,
        unit="nats",
        note="interpreted as the training loss with dropout, since it is above the other loss",
    ),
    _write_up(
        quantity="“validation” loss after 2000 steps",
        metric="held_out_loss",
        value=0.988,
        unit="nats",
        comparable=False,
        note=(
            "below the write-up's own training loss and far below any held-out loss of a model of "
            "this size; ours is held out (on training windows without dropout it is 1.09)"
        ),
    ),
    _write_up(
        quantity="time for 2000 steps on a CPU",
        metric="seconds",
        value=6 * 3600 + 32 * 60,
        unit="seconds",
        comparable=False,
        note="another machine",
    ),
    _nanogpt(
        quantity="nanoGPT, best validation loss",
        value=1.4697,
        presets=("reference", "speedrun"),
        source=f"{NANOGPT}, train_shakespeare_char",
        note=(
            "same split; 10.7 M parameters, context length 256; best of 5000 steps, estimated on "
            "random windows"
        ),
    ),
    _nanogpt(
        quantity="nanoGPT, three minutes on a CPU",
        value=1.88,
        presets=("quick",),
        source=f"{NANOGPT}, CPU recipe",
        note="same split; 4 blocks, dimension 128, context length 64; estimated on random windows",
    ),
)
