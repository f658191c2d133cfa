"""Published results of the two speech labs: speaker classification and language model."""

from jaxlabs.published import Published, PublishedCurve

WRITE_UP = "course write-up of the speeches lab (unpublished; UCSD CSE 256, assignment 2)"
SPEAKERS = {"obama": "Obama", "wbush": "W. Bush", "hbush": "H. Bush"}

PERPLEXITY = (
    "exp of the mean loss over adjacent windows of one block, whose first words have little "
    "context; ours is measured in the same way"
)
AT_500 = {
    "reference": {"train_text": 162.97, "obama": 375.02, "wbush": 476.34, "hbush": 414.64},
    "window": {"train_text": 157.87, "obama": 368.99, "wbush": 460.88, "hbush": 402.49},
}
AT_1 = {"train_text": 6489.78, "obama": 6421.51, "wbush": 6602.67, "hbush": 6504.76}

ACCURACY = (
    "one run, last epoch, not selected on the test set. 551 of the 750 test sentences also occur "
    "in the training file, so it measures memorization as well; test_unseen holds the others"
)
EPOCH = 131  # steps of one epoch


def _accuracy(quantity: str, metric: str, value: float, comparable: bool, note: str) -> Published:
    return Published(
        presets=("reference", "best"),
        quantity=quantity,
        metric=metric,
        value=value,
        unit="share",
        source=WRITE_UP,
        comparable=comparable,
        note=note,
    )


PUBLISHED_RESULTS = (
    Published(
        presets=("reference",),
        quantity="parameters",
        metric="parameters",
        value=576_467,
        unit="parameters",
        source=WRITE_UP,
        comparable=True,
        note="an embedding table of 5,755 words, some unused by our tokenizer",
    ),
    _accuracy("test accuracy, last epoch", "test_accuracy", 0.8467, True, ACCURACY),
    _accuracy(
        "training accuracy, last epoch", "train_sentences_accuracy", 0.9799, True, "last epoch"
    ),
    _accuracy(
        "test accuracy, best epoch",
        "test_accuracy",
        0.8760,
        False,
        "epoch 14 of 15, selected on the test accuracy; ours is the last epoch",
    ),
    Published(
        presets=("reference", "window"),
        quantity="parameters",
        metric="parameters",
        value=863_243,
        unit="parameters",
        source=WRITE_UP,
        comparable=True,
        note="an embedding table of 5,755 words, some unused by our tokenizer",
    ),
    *(
        Published(
            presets=("reference", "best") if preset == "reference" else (preset,),
            quantity=f"perplexity after 500 iterations, {SPEAKERS.get(split, 'training text')}",
            metric=f"{split}_perplexity",
            value=value,
            unit="perplexity",
            source=WRITE_UP,
            comparable=True,
            note=PERPLEXITY,
        )
        for preset, values in AT_500.items()
        for split, value in values.items()
    ),
)

CURVES = (
    PublishedCurve(
        presets=("reference",),
        split="test",
        metric="accuracy",
        steps=(EPOCH, 14 * EPOCH, 15 * EPOCH),
        values=(0.3333, 0.8760, 0.8467),
        unit="share",
        source=WRITE_UP,
        note="epochs 1, 14 and 15; epoch 1 equals the majority-class accuracy",
    ),
    PublishedCurve(
        presets=("reference",),
        split="train_sentences",
        metric="accuracy",
        steps=(EPOCH, 14 * EPOCH, 15 * EPOCH),
        values=(0.4465, 0.9924, 0.9799),
        unit="share",
        source=WRITE_UP,
        note="epochs 1, 14 and 15",
    ),
    PublishedCurve(
        presets=("reference",),
        split="train_text",
        metric="perplexity",
        steps=(1, 100, 200, 300, 400, 500),
        values=(6489.78, 573.67, 411.98, 290.08, 212.91, 162.97),
        unit="perplexity",
        source=WRITE_UP,
        note=PERPLEXITY,
    ),
    *(
        PublishedCurve(
            presets=("reference",),
            split=split,
            metric="perplexity",
            steps=(1, 500),
            values=(AT_1[split], AT_500["reference"][split]),
            unit="perplexity",
            source=WRITE_UP,
            note=PERPLEXITY,
        )
        for split in SPEAKERS
    ),
    *(
        PublishedCurve(
            presets=("window",),
            split=split,
            metric="perplexity",
            steps=(500,),
            values=(value,),
            unit="perplexity",
            source=WRITE_UP,
            note=PERPLEXITY,
        )
        for split, value in AT_500["window"].items()
    ),
)
