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
MEAN = "mean squared error of the noise per pixel, averaged over the steps of an epoch"

SCALING = f"{MEAN}; scaling of images to [-1, 1] is inferred"
SPLIT = "the split of the time embedding is inferred from this count"

_reference = functools.partial(Published, presets=("reference",), source=WRITE_UP)
_loss = functools.partial(_reference, unit="squared error", note=SCALING)

PUBLISHED_RESULTS = (
    _reference("parameters", "parameters", 1_011_969, "parameters", note=SPLIT),
    _loss("training loss, mean of epoch 1", "epoch_1_loss", FIRST_RUN[0]),
    _loss("training loss, mean of epoch 2", "epoch_2_loss", FIRST_RUN[1]),
    _loss("training loss, mean of epoch 5", "epoch_5_loss", FIRST_RUN[4]),
    _loss("training loss, mean of epoch 10", "epoch_10_loss", FIRST_RUN[9]),
    *(
        PublishedCurve(
            presets=("reference",),
            split="train",
            metric="loss",
            steps=tuple(EPOCH * (epoch + 1) for epoch in range(len(values))),
            values=values,
            unit="squared error",
            source=source,
            note=MEAN,
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
