"""Published results of the autoencoders: sparse ones on patches, VAEs on digits."""

from jaxlabs.published import Published

BURDA = "Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, table 1, VAE, 1 layer, k = 1"
BINARIZATION = (
    "5,000 importance samples; dynamic binarization in training as in the authors' code; the test "
    "set is binarized once, with another sample than ours; Adam's epsilon is 1e-4 there, 1e-8"
    " here; "
    "ours is over a random subset of the test images, see its standard error"
)
WRITE_UP = "course write-ups of the sparse autoencoder exercise (unpublished)"
OTHER_PATCHES = "on Olshausen and Field's ten whitened images; ours are other photographs"


def _variational(metric: str, value: float, unit: str, quantity: str, note: str) -> Published:
    return Published(
        presets=("reference", "best"),
        quantity=quantity,
        metric=metric,
        value=value,
        unit=unit,
        source=BURDA,
        comparable=True,
        note=note,
    )


def _sparse(metric: str, value: float, quantity: str, note: str) -> Published:
    return Published(
        presets=("reference", "best"),
        quantity=quantity,
        metric=metric,
        value=value,
        unit="cost",
        source=WRITE_UP,
        comparable=False,
        note=note,
    )


PUBLISHED_RESULTS = (
    _variational(
        "bound_5000", 86.76, "nats", "negative log-likelihood of a test digit", BINARIZATION
    ),
    _variational(
        "active_units",
        19,
        "units",
        "active latent units of 50",
        "posterior mean with a variance above 0.01",
    ),
    _sparse(
        "untrained_cost",
        48.85,
        "cost before training",
        f"{OTHER_PATCHES}; a single initialization",
    ),
    _sparse("training_patches_loss", 0.461, "cost after training, first write-up", OTHER_PATCHES),
    _sparse("training_patches_loss", 0.481, "cost after training, second write-up", OTHER_PATCHES),
    _sparse(
        "training_patches_l1_error",
        7.41,
        "L1 reconstruction error",
        f"{OTHER_PATCHES}; the reduction is not stated; as a sum over 64 pixels it is consistent "
        "with a cost of 0.461 only if nearly all errors are equally large",
    ),
)
