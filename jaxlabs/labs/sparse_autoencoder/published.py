"""Published results of the sparse autoencoder on patches of natural images."""

import functools

from jaxlabs.published import Published

OTHER_PATCHES = "on Olshausen and Field's ten whitened images; ours are other photographs"

_write_up = functools.partial(
    Published,
    unit="cost",
    presets=("reference", "best"),
    source="course write-ups of the sparse autoencoder exercise (unpublished)",
    comparable=False,
    note=OTHER_PATCHES,
)

PUBLISHED_RESULTS = (
    _write_up(
        quantity="cost before training",
        metric="untrained_cost",
        value=48.85,
        note=f"{OTHER_PATCHES}; a single initialization",
    ),
    _write_up(
        quantity="cost after training, first write-up",
        metric="training_patches_loss",
        value=0.461,
    ),
    _write_up(
        quantity="cost after training, second write-up",
        metric="training_patches_loss",
        value=0.481,
    ),
    _write_up(
        quantity="L1 reconstruction error",
        metric="training_patches_l1_error",
        value=7.41,
        note=(
            f"{OTHER_PATCHES}; the reduction is not stated; as a sum over 64 pixels it is"
            " consistent with a cost of 0.461 only if nearly all errors are equally large"
        ),
    ),
)
