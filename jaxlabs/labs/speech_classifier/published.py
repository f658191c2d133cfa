"""Published results of the classification of sentences by speaker."""

import functools

from jaxlabs.published import Published, PublishedCurve

WRITE_UP = "course write-up of the speeches lab (unpublished; UCSD CSE 256, assignment 2)"
EPOCH = 131
"""Steps of one epoch."""

_accuracy = functools.partial(
    Published, unit="fraction", presets=("reference", "best"), source=WRITE_UP
)
_curve = functools.partial(
    PublishedCurve,
    presets=("reference",),
    metric="accuracy",
    steps=(EPOCH, 14 * EPOCH, 15 * EPOCH),
    unit="fraction",
    source=WRITE_UP,
)

PUBLISHED_RESULTS = (
    Published(
        quantity="parameters",
        metric="parameters",
        value=576_467,
        unit="parameters",
        presets=("reference",),
        source=WRITE_UP,
        note="an embedding table of 5,755 words, some unused by our tokenizer",
    ),
    _accuracy(
        quantity="test accuracy, last epoch",
        metric="test_accuracy",
        value=0.8467,
        note=(
            "one run, last epoch, not selected on the test set. 551 of the 750 test sentences also"
            " occur in the training file, so it measures memorization as well; test_unseen holds"
            " the others"
        ),
    ),
    _accuracy(
        quantity="training accuracy, last epoch",
        metric="train_sentences_accuracy",
        value=0.9799,
        note="last epoch",
    ),
    _accuracy(
        quantity="test accuracy, best epoch",
        metric="test_accuracy",
        value=0.8760,
        comparable=False,
        note="epoch 14 of 15, selected on the test accuracy; ours is the last epoch",
    ),
    _curve(
        split="test",
        values=(0.3333, 0.8760, 0.8467),
        note="epochs 1, 14 and 15; epoch 1 equals the majority-class accuracy",
    ),
    _curve(
        split="train_sentences",
        values=(0.4465, 0.9924, 0.9799),
        note="epochs 1, 14 and 15",
    ),
)
