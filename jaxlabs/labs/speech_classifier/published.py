"""Published results of the classification of sentences by speaker."""

import functools

from jaxlabs.published import Published, PublishedCurve

WRITE_UP = "course write-up of the speeches lab (unpublished; UCSD CSE 256, assignment 2)"
EPOCH = 131  # steps of one epoch

TABLE = "an embedding table of 5,755 words, some unused by our tokenizer"
LAST = (
    "one run, last epoch, not selected on the test set. 551 of the 750 test sentences also"
    " occur in the training file, so it measures memorization as well; test_unseen holds"
    " the others"
)
SELECTED = "epoch 14 of 15, selected on the test accuracy; ours is the last epoch"
MAJORITY = "epochs 1, 14 and 15; epoch 1 equals the majority-class accuracy"

_result = functools.partial(Published, presets=("reference", "best"), source=WRITE_UP)
_curve = functools.partial(
    PublishedCurve,
    presets=("reference",),
    metric="accuracy",
    steps=(EPOCH, 14 * EPOCH, 15 * EPOCH),
    unit="share",
    source=WRITE_UP,
)
TRAINING = "training accuracy, last epoch"
BEST = "test accuracy, best epoch"

PUBLISHED_RESULTS = (
    _result("parameters", "parameters", 576_467, "parameters", note=TABLE, presets=("reference",)),
    _result("test accuracy, last epoch", "test_accuracy", 0.8467, "share", note=LAST),
    _result(TRAINING, "train_sentences_accuracy", 0.9799, "share", note="last epoch"),
    _result(BEST, "test_accuracy", 0.8760, "share", note=SELECTED, comparable=False),
    _curve(split="test", values=(0.3333, 0.8760, 0.8467), note=MAJORITY),
    _curve(split="train_sentences", values=(0.4465, 0.9924, 0.9799), note="epochs 1, 14 and 15"),
)
