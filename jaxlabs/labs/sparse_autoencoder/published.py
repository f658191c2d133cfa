"""Published results of the sparse autoencoder on patches of natural images."""

import functools

from jaxlabs.published import Published

OTHER_PATCHES = "on Olshausen and Field's ten whitened images; ours are other photographs"
ONE_START = f"{OTHER_PATCHES}; a single initialization"
REDUCTION = (
    f"{OTHER_PATCHES}; the reduction is not stated; as a sum over 64 pixels it is"
    " consistent with a cost of 0.461 only if nearly all errors are equally large"
)
LOSS = "training_patches_loss"

_write_up = functools.partial(
    Published,
    presets=("reference", "best"),
    source="course write-ups of the sparse autoencoder exercise (unpublished)",
    comparable=False,
    note=OTHER_PATCHES,
)

PUBLISHED_RESULTS = (
    _write_up("cost before training", "untrained_cost", 48.85, "cost", note=ONE_START),
    _write_up("cost after training, first write-up", LOSS, 0.461, "cost"),
    _write_up("cost after training, second write-up", LOSS, 0.481, "cost"),
    _write_up("L1 reconstruction error", "training_patches_l1_error", 7.41, "cost", note=REDUCTION),
)
