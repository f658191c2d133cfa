"""Published results of variational autoencoders on digits."""

import functools

from jaxlabs.published import Published

_burda = functools.partial(
    Published,
    presets=("reference", "best"),
    source="Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, table 1, VAE, 1 layer, k = 1",
)

PUBLISHED_RESULTS = (
    _burda(
        quantity="negative log-likelihood of a test digit",
        metric="iwae_5000",
        value=86.76,
        unit="nats",
        note=(
            "5,000 importance samples; dynamic binarization in training as in the authors' code;"
            " the test set is binarized once, with another sample than ours; Adam's epsilon is 1e-4"
            " there, 1e-8 here; ours is over a random subset of the test images, see its standard"
            " error"
        ),
    ),
    _burda(
        quantity="active latent units of 50",
        metric="active_units",
        value=19,
        unit="units",
        note="posterior mean with a variance above 0.01",
    ),
)
