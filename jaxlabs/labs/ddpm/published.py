"""Published results of diffusion on MNIST."""

import functools

from jaxlabs.published import Published, PublishedCurve

WRITE_UP = "course write-ups of diffusion on MNIST (unpublished)"
PORT = "a PyTorch port of the reference network, in bfloat16"
EPOCH = 469
"""Steps of one epoch: 60,000 digits in batches of 128."""

FIRST_RUN = (0.0766, 0.0373, 0.0332, 0.0308, 0.0291, 0.0280, 0.0272, 0.0268, 0.0259, 0.0258)
SECOND_RUN = (0.0795, 0.0372)
PORT_RUN = (0.0708, 0.0357)
MEAN_LOSS = "mean squared error of the noise per pixel, averaged over the steps of an epoch"

_reference = functools.partial(Published, presets=("reference",), source=WRITE_UP)

PUBLISHED_RESULTS = (
    _reference(
        quantity="parameters",
        metric="parameters",
        value=1_011_969,
        unit="parameters",
        note="the split of the time embedding is inferred from this count",
    ),
    *(
        _reference(
            quantity=f"training loss, mean of epoch {epoch}",
            metric=f"epoch_{epoch}_loss",
            value=FIRST_RUN[epoch - 1],
            unit="squared error",
            note=f"{MEAN_LOSS}; scaling of images to [-1, 1] is inferred",
        )
        for epoch in (1, 2, 5, 10)
    ),
    *(
        PublishedCurve(
            presets=("reference",),
            split="train",
            metric="loss",
            steps=tuple(EPOCH * (epoch + 1) for epoch in range(len(values))),
            values=values,
            unit="squared error",
            source=source,
            note=MEAN_LOSS,
            label=label,
            window=EPOCH,
        )
        for values, source, label in (
            (FIRST_RUN, WRITE_UP, "write-up"),
            (SECOND_RUN, WRITE_UP, "write-up, second run"),
            (PORT_RUN, PORT, "PyTorch port"),
        )
    ),
)
