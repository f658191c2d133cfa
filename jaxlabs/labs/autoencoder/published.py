"""Published results of variational autoencoders on digits."""

import functools

from jaxlabs.published import Published

_burda = functools.partial(
    Published,
    presets=("reference", "best"),
    source="Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, table 1, VAE, 1 layer, k = 1",
)

SAMPLES = (
    "5,000 importance samples; dynamic binarization in training as in the authors' code;"
    " the test set is binarized once, with another sample than ours; Adam's epsilon is 1e-4"
    " there, 1e-8 here; ours is over a random subset of the test images, see its standard"
    " error"
)
ACTIVE = "posterior mean with a variance above 0.01"

PUBLISHED_RESULTS = (
    _burda("negative log-likelihood of a test digit", "bound_5000", 86.76, "nats", note=SAMPLES),
    _burda("active latent units of 50", "active_units", 19, "units", note=ACTIVE),
)
