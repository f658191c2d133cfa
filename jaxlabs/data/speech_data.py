"""Speeches as data of two labs: labeled sentences, and one long text of words."""

from pathlib import Path

import numpy as np

from jaxlabs.config import ArgumentError
from jaxlabs.data import windows
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.lm_data import Baselines, describe_tokens, text_baselines
from jaxlabs.data.speeches import SPEAKERS, Sentences, Speeches
from jaxlabs.data.text_tokenizer import TextInMemory, text_tokenizer
from jaxlabs.data.tokenizers import UNKNOWN, Tokenizer, WordTokenizer
from jaxlabs.data.vocab import PADDING, pad

EXAMPLES_PER_SPEAKER = 2
"""Test sentences of each speaker that a run predicts as its samples."""


def classification_data(
    speeches: Speeches,
    block: int,
    validation_fraction: float = 0.0,
    min_count: int = 1,
    class_weights: bool = False,
) -> DataModule:
    """Returns the data of speaker classification.

    Batches hold `inputs [batch, time]` int32, padded with `<pad>`, and `labels [batch]` int32. The
    evaluation sets are `validation` (if the fraction is positive), `test`, `test_unseen` (test
    sentences that do not occur verbatim in the training file; most of the published ones do) and
    `train_sentences`. The first of them is monitored: select models by `validation`.

    Sentences are truncated to `block` tokens. The split of a `validation_fraction` in [0, 1) does
    not depend on the run's seed. Words with a count below `min_count` in the training files are
    `<unk>`. With `class_weights` the training sentences of each speaker have equal total weight.
    """
    tokenizer = speeches.tokenizer
    if min_count > 1:
        lines = [*speeches.train.texts, speeches.train_text]
        tokenizer = WordTokenizer.from_lines(lines, min_count)
    train, test = (_encode(part, tokenizer, block) for part in (speeches.train, speeches.test))
    train, validation = _hold_out(train, validation_fraction)
    known = set(speeches.train.texts)
    unseen = np.array([sentence not in known for sentence in speeches.test.texts])
    evaluations = {} if validation is None else {"validation": validation}
    evaluations |= {"test": test}
    if unseen.any():
        evaluations |= {"test_unseen": test.take(unseen)}
    unknown = np.isin(test.arrays["inputs"], (PADDING, UNKNOWN)).all(axis=1)
    return DataModule(
        train=_balance(train) if class_weights else train,
        eval_sets=evaluations | {"train_sentences": train},
        dataset=speeches.describe()
        | dict(speeches.speaker_facts)
        | {
            "test_sentences": test.count,
            "test_sentences_in_training": int((~unseen).sum()),
            "test_sentences_all_unknown": int(unknown.sum()),
        },
        comparable=speeches.comparable,
        data_spec=tokenizer.to_json()
        | {"speakers": list(SPEAKERS.values()), "examples": _examples_of(speeches.test)},
        baselines=lambda: (
            constant_baselines(train.arrays["labels"], test.arrays["labels"])
            | dict(speeches.speaker_facts)
        ),
        warning=speeches.warning,
    )


def word_lm_data(
    speeches: Speeches,
    block: int,
    baselines: Baselines,
    validation_fraction: float = 0.0,
    stride: int = 1,
    tokenizer: str = "word",
    data_dir: str | Path | None = None,
    eval_tokens: int | None = None,
) -> DataModule:
    """Returns the data of language modeling, by default of words.

    Training reads windows of `block` tokens at random positions of the training text. The splits
    are `train_text` and one for each speaker, evaluated in two ways. Under their own names: in
    non-overlapping windows of one block, as in the course of the write-up, where early positions
    have little context. (The course samples windows at all positions, which has the same expected
    loss: context lengths 1 to `block` are equally frequent.) As `<split>_sliding`, after the last
    step: in overlapping windows with an almost full context, the usual convention.

    The held-out tokens of the baselines are the concatenated test texts. A `validation_fraction` in
    [0, 1) of the training text, at its end, is held out as the monitored split `validation`; if it
    is 0, `train_text` is monitored. Each further sliding window scores `stride` targets, see
    `windows.sliding_windows`. Words are those of both training files; for other values of
    `tokenizer`, for `data_dir` and for `eval_tokens` see `lm_data.lm_data`.

    Raises:
      UserError: a text is shorter than one window. Or see `text_tokenizer`.
    """
    encoder, train, validation = _encode_training(
        speeches, validation_fraction, tokenizer, data_dir
    )
    splits = {"validation": validation} if len(validation) else {}
    tests = {name: encoder.encode(content) for name, content in speeches.test_texts.items()}
    facts, described = dict(speeches.text_facts), speeches.describe()
    if not isinstance(encoder, WordTokenizer):  # what is known of words is not known of characters
        facts = {}
        del described["oov_rates"], described["distinct_tokens"]
        described |= describe_tokens(tokenizer, encoder, len(train) + len(validation))
    splits |= {"train_text": train} | tests
    return DataModule(
        train=windows.token_stream(train, block),
        eval_sets={
            name: windows.consecutive_windows(tokens, block, eval_tokens)
            for name, tokens in splits.items()
        },
        final_eval_sets=lambda: {
            f"{name}_sliding": windows.sliding_windows(tokens, block, stride, eval_tokens)
            for name, tokens in splits.items()
        },
        dataset=described | facts | {"train_tokens": len(train)},
        comparable=speeches.comparable,
        data_spec=encoder.to_json() | {"speakers": list(SPEAKERS.values())},
        baselines=lambda: (
            text_baselines(baselines, encoder, train, np.concatenate([*tests.values()]), {}) | facts
        ),
        warning=speeches.warning,
        loss_unit=None if isinstance(encoder, WordTokenizer) else f"nats per {encoder.unit}",
        text_tokens={
            name: len(tokens) - 1
            for split, tokens in splits.items()
            for name in (split, f"{split}_sliding")
        },
        token_bytes=encoder.token_bytes(),
    )


def _encode_training(
    speeches: Speeches, fraction: float, value: str, data_dir: str | Path | None
) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """Returns the tokenizer, the training tokens, and those of a fraction of the text at its end.

    A tokenizer that is trained reads the rest alone. The fraction is one of words, or of characters
    if the tokens are others.
    """
    text = speeches.train_text
    if value == "word":
        tokens = speeches.tokenizer.encode(text)
        border = len(tokens) - round(fraction * len(tokens))
        return speeches.tokenizer, tokens[:border], tokens[border:]
    border = len(text) - round(fraction * len(text))
    train, held_out = text[:border], text[border:]
    tests = "".join(speeches.test_texts.values())
    encoder = text_tokenizer(value, TextInMemory(train, held_out + tests), data_dir)
    return encoder, encoder.encode(train), encoder.encode(held_out)


def encode_prompt(tokenizer: WordTokenizer, prompt: str) -> np.ndarray:
    """Returns the tokens `[length]` of a prompt.

    Raises:
      UserError: the prompt has no word, or no known word.
    """
    tokens = tokenizer.encode(prompt)
    if not len(tokens):
        raise ArgumentError("prompt", f"{prompt!r} has no word; at least one is needed")
    if (tokens == UNKNOWN).all():
        raise ArgumentError(
            "prompt",
            f"all words of {prompt!r} are out of vocabulary; at least one of the"
            f" {len(tokenizer.words):,} words of the vocabulary is needed",
        )
    return tokens


def constant_baselines(train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, float]:
    """Returns the metrics of classifiers that ignore the input.

    `constant` is the loss, in nats, of predicting the frequencies of the training labels;
    `constant_accuracy` the accuracy of predicting the most frequent label, and
    `constant_train_accuracy` its accuracy on the training labels.
    """
    shares = np.bincount(train_labels, minlength=len(SPEAKERS)) / len(train_labels)
    with np.errstate(divide="ignore"):
        return {
            "constant": float(-np.log(shares)[test_labels].mean()),
            "constant_accuracy": float(np.mean(test_labels == shares.argmax())),
            "constant_train_accuracy": float(shares.max()),
        }


def _encode(sentences: Sentences, tokenizer: WordTokenizer, block: int) -> Examples:
    inputs = pad([tokenizer.encode(text) for text in sentences.texts], block)
    return Examples({"inputs": inputs, "labels": np.array(sentences.labels, np.int32)})


def _hold_out(train: Examples, fraction: float) -> tuple[Examples, Examples | None]:
    count = round(fraction * train.count)
    if not count:
        return train, None
    order = np.random.default_rng(0).permutation(train.count)
    kept, held_out = (train.take(np.sort(part)) for part in (order[count:], order[:count]))
    for number, speaker in enumerate(SPEAKERS.values()):
        if number not in kept.arrays["labels"] or number not in held_out.arrays["labels"]:
            raise ArgumentError(
                "validation_fraction",
                f"{fraction} of {train.count:,} sentences leaves no training or no validation"
                f" sentence of {speaker}",
            )
    return kept, held_out


def _balance(train: Examples) -> Examples:
    """Returns the sentences with weights of equal total for each speaker and mean 1."""
    labels = train.arrays["labels"]
    present, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = (len(labels) / len(present) / counts)[index]
    return Examples(train.arrays | {"weights": weights.astype(np.float32)})


def _examples_of(test: Sentences) -> list[list]:
    """Returns the first test sentences of each speaker as [label, sentence]."""
    examples = []
    for number in range(len(SPEAKERS)):
        own = [text for text, label in zip(test.texts, test.labels, strict=True) if label == number]
        examples += [[number, text] for text in own[:EXAMPLES_PER_SPEAKER]]
    return examples
