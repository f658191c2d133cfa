"""Published results of the character GPT."""

import functools

from jaxlabs.published import Published

_reference = functools.partial(
    Published,
    presets=("reference",),
    source="course write-up of the character GPT lab (unpublished)",
)
_nanogpt = functools.partial(Published, metric="held_out_loss", unit="nats")
NANOGPT = "README of karpathy/nanoGPT"

SIZE = "65 characters; position encodings are fixed, without parameters"
WITH_DROPOUT = "interpreted as the training loss with dropout, since it is above the other loss"
TRAINING_WINDOWS = (
    "below the write-up's own training loss and far below any held-out loss of a model of "
    "this size; consistent with training windows; ours is held out"
)
MACHINE = {"comparable": False, "note": "another machine"}
BEST = (
    "same split; 10.7 M parameters, context length 256; best of 5000 steps, estimated on "
    "random windows"
)
SMALL = "same split; 4 blocks, dimension 128, context length 64; estimated on random windows"
LABEL = "“validation” loss after 2000 steps"

PUBLISHED_RESULTS = (
    _reference("parameters", "parameters", 10_690_625, "parameters", note=SIZE),
    _reference("training loss after 2000 steps", "train_loss", 1.155, "nats", note=WITH_DROPOUT),
    _reference(LABEL, "held_out_loss", 0.988, "nats", note=TRAINING_WINDOWS, comparable=False),
    _reference("time for 2000 steps on a CPU", "seconds", 6 * 3600 + 32 * 60, "seconds", **MACHINE),
    _nanogpt(
        "nanoGPT, best validation loss",
        value=1.4697,
        presets=("reference", "best", "speedrun"),
        source=f"{NANOGPT}, train_shakespeare_char",
        note=BEST,
    ),
    _nanogpt(
        "nanoGPT, three minutes on a CPU",
        value=1.88,
        presets=("quick",),
        source=f"{NANOGPT}, CPU recipe",
        note=SMALL,
    ),
)
