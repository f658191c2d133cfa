"""Published results of the word-level language model of speeches."""

import functools

from jaxlabs.published import Published, PublishedCurve

WRITE_UP = "course write-up of the speeches lab (unpublished; UCSD CSE 256, assignment 2)"
SPEAKERS = {"obama": "Obama", "wbush": "W. Bush", "hbush": "H. Bush"}

MEASUREMENT = (
    "exp of the mean loss over adjacent windows of one block, whose first words have little "
    "context; ours is measured in the same way"
)
AT_500 = {
    "reference": {"train_text": 162.97, "obama": 375.02, "wbush": 476.34, "hbush": 414.64},
    "window": {"train_text": 157.87, "obama": 368.99, "wbush": 460.88, "hbush": 402.49},
}
AT_1 = {"obama": 6421.51, "wbush": 6602.67, "hbush": 6504.76}

_curve = functools.partial(
    PublishedCurve, metric="perplexity", unit="perplexity", source=WRITE_UP, note=MEASUREMENT
)

PUBLISHED_RESULTS = (
    Published(
        quantity="parameters",
        metric="parameters",
        value=863_243,
        unit="parameters",
        presets=("reference", "window"),
        source=WRITE_UP,
        note="an embedding table of 5,755 words, some unused by our tokenizer",
    ),
    *(
        Published(
            quantity=f"perplexity after 500 iterations, {SPEAKERS.get(split, 'training text')}",
            metric=f"{split}_perplexity",
            value=value,
            unit="perplexity",
            presets=("reference", "best") if preset == "reference" else (preset,),
            source=WRITE_UP,
            note=MEASUREMENT,
        )
        for preset, values in AT_500.items()
        for split, value in values.items()
    ),
    _curve(
        presets=("reference",),
        split="train_text",
        steps=(1, 100, 200, 300, 400, 500),
        values=(6489.78, 573.67, 411.98, 290.08, 212.91, 162.97),
    ),
    *(
        _curve(
            presets=("reference",),
            split=split,
            steps=(1, 500),
            values=(AT_1[split], AT_500["reference"][split]),
        )
        for split in SPEAKERS
    ),
    *(
        _curve(presets=("window",), split=split, steps=(500,), values=(value,))
        for split, value in AT_500["window"].items()
    ),
)
