"""Speeches as data of two labs: sentences with their speakers, and one long text of words."""

from collections.abc import Callable

import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data import windows
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.speeches import SPEAKERS, Sentences, Speeches
from jaxlabs.data.tokenizers import PADDING, UNKNOWN, WordTokenizer

SHOWN = 2
"""Test sentences of each speaker that a run's samples show."""

Baselines = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]


def classification_data(
    speeches: Speeches,
    block: int,
    validation_fraction: float = 0.0,
    least: int = 1,
    class_weights: bool = False,
) -> Data:
    """Returns the data of a run that learns who speaks.

    Batches hold `inputs` [batch, block] int32, filled up with `<pad>`, and `labels` [batch] int32.
    Evaluated are `validation` (where a part is kept for it), `test`, `test_unseen` (those test
    sentences that do not stand in the training file word for word: most of the published ones do)
    and `train_sentences`, which were trained on. The first of these is the headline: what is chosen
    by a figure should be chosen by `validation`.

    Args:
      speeches: the files.
      block: tokens of a sentence that are kept, the first ones.
      validation_fraction: share of the training sentences that is held out, in [0, 1); the same
        sentences whatever the seed.
      least: words that occur less often than this in the training files are unknown.
      class_weights: whether training weighs sentences so that every speaker counts the same.
    """
    tokenizer = speeches.tokenizer
    if least > 1:
        tokenizer = WordTokenizer.from_lines([*speeches.train.texts, speeches.train_text], least)
    encoded = [
        pad(tokenizer, sentences.texts, block) for sentences in (speeches.train, speeches.test)
    ]
    labels = [np.array(part.labels, np.int32) for part in (speeches.train, speeches.test)]
    train, test = (
        Examples({"inputs": rows, "labels": numbers})
        for rows, numbers in zip(encoded, labels, strict=True)
    )
    train, validation = _hold_out(train, validation_fraction)
    known = set(speeches.train.texts)
    unseen = np.array([sentence not in known for sentence in speeches.test.texts])
    evaluations = {} if validation is None else {"validation": validation}
    evaluations |= {"test": test}
    if unseen.any():
        evaluations |= {"test_unseen": _part(test, unseen)}
    unknown = np.isin(test.arrays["inputs"], (PADDING, UNKNOWN)).all(axis=1)
    return Data(
        train=_balance(train) if class_weights else train,
        evaluations=evaluations | {"train_sentences": train},
        final_eval_sets=dict,
        dataset=speeches.describe()
        | dict(speeches.speaker_facts)
        | {
            "test_sentences": test.count,
            "test_sentences_in_training": int((~unseen).sum()),
            "test_sentences_all_unknown": int(unknown.sum()),
        },
        comparable=speeches.comparable,
        vocabulary=tokenizer.to_json()
        | {"speakers": list(SPEAKERS.values()), "shown": _shown(speeches.test)},
        baselines=lambda: (
            constant_baselines(train.arrays["labels"], test.arrays["labels"])
            | dict(speeches.speaker_facts)
        ),
        notice=speeches.notice,
    )


def language_data(
    speeches: Speeches,
    block: int,
    baselines: Baselines,
    validation_fraction: float = 0.0,
    stride: int = 1,
) -> Data:
    """Returns the data of a run that learns to go on with words.

    Trains on windows at random places of the training text. The splits are `train_text` and one for
    each speaker, in two conventions. As the write-up's course evaluates, with windows of one block
    in which early positions see few words to their left: under the plain names, in windows side by
    side, every target once. (The course draws batches from the windows at all places, whose
    expected loss is the same: either way each number of words to the left, 1 to `block`, is as
    frequent as any other.) With as much left context as the block allows, as the loss of a text is
    usually given: after the last step, as `<split>_sliding`.

    Args:
      speeches: the files.
      block: words that the model sees at once.
      baselines: `(training tokens, held-out tokens, vocabulary size) -> nats per word`; the
        held-out ones are the three test texts, one after the other.
      validation_fraction: share of the training text, its end, that is held out, in [0, 1); it
        becomes the split `validation`, which is then the headline. Without it `train_text` is.
      stride: targets that each further sliding window scores; see `windows.sliding_windows`.

    Raises:
      UserError: a text is shorter than one window.
    """
    tokenizer = speeches.tokenizer
    train = tokenizer.encode(speeches.train_text)
    border = len(train) - round(validation_fraction * len(train))
    train, validation = train[:border], train[border:]
    splits = {"validation": validation} if len(validation) else {}
    tests = {name: tokenizer.encode(content) for name, content in speeches.test_texts.items()}
    splits |= {"train_text": train} | tests
    return Data(
        train=windows.token_stream(train, block),
        evaluations={
            name: windows.consecutive_windows(tokens, block) for name, tokens in splits.items()
        },
        final_eval_sets=lambda: {
            f"{name}_sliding": windows.sliding_windows(tokens, block, stride)
            for name, tokens in splits.items()
        },
        dataset=speeches.describe() | dict(speeches.text_facts) | {"train_tokens": len(train)},
        comparable=speeches.comparable,
        vocabulary=tokenizer.to_json() | {"speakers": list(SPEAKERS.values())},
        baselines=lambda: (
            baselines(train, np.concatenate(list(tests.values())), tokenizer.vocabulary_size)
            | dict(speeches.text_facts)
        ),
        notice=speeches.notice,
    )


def encode_prompt(tokenizer: WordTokenizer, prompt: str) -> np.ndarray:
    """Returns the tokens [length] of what a user typed.

    Raises:
      UserError: it holds no word, or none that is known.
    """
    tokens = tokenizer.encode(prompt)
    if not len(tokens):
        raise UserError(f"--prompt: {prompt!r} holds no word; at least one is needed")
    if (tokens == UNKNOWN).all():
        raise UserError(
            f"--prompt: none of the words of {prompt!r} is among the"
            f" {len(tokenizer.words):,} that the model knows; at least one has to be"
        )
    return tokens


def pad(tokenizer: WordTokenizer, sentences: tuple[str, ...] | list[str], block: int) -> np.ndarray:
    """Returns sentences as [count, block] int32: longer ones cut, shorter ones filled up."""
    rows = np.full((len(sentences), block), PADDING, np.int32)
    for row, sentence in zip(rows, sentences, strict=True):
        tokens = tokenizer.encode(sentence)[:block]
        row[: len(tokens)] = tokens
    return rows


def constant_baselines(train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, float]:
    """Returns how well one does on the test labels without reading a word.

    `constant` is the loss, in nats, of answering with the shares of the training labels;
    `constant_accuracy` the accuracy of always naming the most frequent of them, and
    `constant_train_accuracy` that on the training labels themselves.
    """
    shares = np.bincount(train_labels, minlength=len(SPEAKERS)) / len(train_labels)
    with np.errstate(divide="ignore"):
        return {
            "constant": float(-np.log(shares)[test_labels].mean()),
            "constant_accuracy": float(np.mean(test_labels == shares.argmax())),
            "constant_train_accuracy": float(shares.max()),
        }


def _hold_out(train: Examples, fraction: float) -> tuple[Examples, Examples | None]:
    count = round(fraction * train.count)
    if not count:
        return train, None
    order = np.random.default_rng(0).permutation(train.count)
    kept, held_out = (_part(train, np.sort(part)) for part in (order[count:], order[:count]))
    for number, speaker in enumerate(SPEAKERS.values()):
        if number not in kept.arrays["labels"] or number not in held_out.arrays["labels"]:
            raise UserError(
                f"--validation_fraction: {fraction} of {train.count:,} sentences leaves none of"
                f" {speaker} to train on or to validate on"
            )
    return kept, held_out


def _balance(train: Examples) -> Examples:
    """Returns the sentences with weights: the same total for each speaker, a mean of 1."""
    labels = train.arrays["labels"]
    present, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = (len(labels) / len(present) / counts)[index]
    return Examples(train.arrays | {"weights": weights.astype(np.float32)})


def _part(examples: Examples, which: np.ndarray) -> Examples:
    return Examples({name: array[which] for name, array in examples.arrays.items()})


def _shown(test: Sentences) -> list[list]:
    """Returns the first test sentences of each speaker as [label, sentence]."""
    shown = []
    for number in range(len(SPEAKERS)):
        own = [text for text, label in zip(test.texts, test.labels, strict=True) if label == number]
        shown += [[number, text] for text in own[:SHOWN]]
    return shown
