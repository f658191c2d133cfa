"""A text as data of a language model: split, tokenized, cut into windows."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import bpe, sources, tokenizers, windows
from jaxlabs.data.batches import ContiguousStreams, require_window
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.documents import encode, require_several
from jaxlabs.data.texts import TextDataset
from jaxlabs.data.tokenizer_base import SHA256
from jaxlabs.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer

EVALUATION_WINDOWS = 128
"""Windows of each sampled split; the held-out text is always evaluated in full."""

OVERLAP = 8
"""Sliding windows that contain each held-out token."""

STREAMS = 64
"""Contiguous segments of the held-out text that a recurrent network reads in parallel."""

Baselines = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
"""`(training tokens, held-out tokens, vocabulary size) -> nats per token`."""

MAX_DECODED, PARTS = 2_000_000, 100
"""Tokens whose characters the baselines count, and evenly spaced parts of a longer text."""

MIN_WORD_COUNT = 2
"""Rarer words of a training text are `<unk>`, so that a model learns when a word is unknown."""


def lm_data(
    dataset: TextDataset,
    context_length: int,
    seed: int,
    baselines: Baselines,
    argument: str = "context_length",
    tokenizer: str = "char",
    data_dir: str | Path | None = None,
    documents: str = "joined",
) -> DataModule:
    """Returns the data of a run on one text: windows of `context_length` tokens.

    The text is split by characters, whatever the tokenizer, so that the held-out text is the same.
    Each loss is a mean over all positions of windows of one context length:

    - `held_out`: consecutive windows of the last 10 %; the monitored split;
    - `train_windows`: windows of the training text;
    - `train_and_val`: random windows of the whole text by `seed`, nine tenths of which was trained
      on;
    - `sliding_window`, after the last step: windows of the held-out text that overlap by seven
      eighths, so that each token is predicted from an almost full context.

    Args:
      dataset: the text.
      context_length: tokens of a window.
      seed: seed of the random windows.
      baselines: losses without a model, see `text_baselines`.
      argument: name of the setting of the context length, for the error message.
      tokenizer: the value of `--tokenizer`.
      data_dir: folder of the data sets, which caches a trained tokenizer.
      documents: one of `documents.DOCUMENTS`.

    Raises:
      ArgumentError: separate documents of a text that is a single one.
      UserError: a split is shorter than one window; the message names `argument`. Or see
        `text_tokenizer`.
    """
    parts = windows.split_text(dataset.text)
    encoder = text_tokenizer(tokenizer, *parts, data_dir)
    encoded = _encode_documents(dataset, parts, encoder)
    (train, train_starts), (held_out, held_out_starts) = encoded
    for part in (train, held_out):
        require_window(len(part), context_length, argument)
    both, sizes = np.concatenate([train, held_out]), (context_length, EVALUATION_WINDOWS)
    stride = -(-context_length // OVERLAP)
    of_train = of_held_out = of_both = {"documents": None}
    if documents == "separate":
        require_several(1 if dataset.document_starts is None else len(dataset.document_starts))
        of_train, of_held_out = {"documents": train_starts}, {"documents": held_out_starts}
        of_both = {"documents": np.append(train_starts, len(train) + held_out_starts)}
    return DataModule(
        train=windows.token_stream(train, context_length, **of_train),
        eval_sets={
            "held_out": windows.consecutive_windows(held_out, context_length, **of_held_out),
            "train_windows": windows.evenly_spaced_windows(train, *sizes, **of_train),
            "train_and_val": windows.random_windows(both, *sizes, seed, **of_both),
        },
        final_eval_sets=lambda: {
            "sliding_window": windows.sliding_windows(
                held_out, context_length, stride, **of_held_out
            )
        },
        dataset=dataset.describe()
        | {"characters": len(dataset.text)}
        | describe_tokens(tokenizer, encoder, len(both))
        | dataset.facts,
        comparable=dataset.comparable,
        data_spec=encoder.to_json(),
        baselines=lambda: text_baselines(baselines, encoder, train, held_out, dataset.facts),
        warning=dataset.warning,
        loss_unit=None if isinstance(encoder, CharTokenizer) else f"nats per {encoder.unit}",
        token_bytes=encoder.token_bytes(),
    )


def _encode_documents(
    dataset: TextDataset, parts: tuple[str, str], tokenizer: Tokenizer
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns tokens and first tokens of the documents of both parts; a cut one is one in each."""
    starts = np.zeros(1, int) if dataset.document_starts is None else dataset.document_starts
    border = len(parts[0])
    train, held_out = starts[starts < border], starts[starts >= border] - border
    return [encode(tokenizer, parts[0], train), encode(tokenizer, parts[1], held_out)]


def text_tokenizer(
    value: str, train: str, held_out: str, data_dir: str | Path | None = None
) -> Tokenizer:
    """Returns the tokenizer of a value of `--tokenizer` for a text.

    Characters are those of the whole text, words those that occur at least `MIN_WORD_COUNT` times
    in its training part. BPE is trained on the training part and cached in `data_dir`/tokenizers.

    Raises:
      ArgumentError: another value; a text without repeated words; `tokenizers` is not installed.
      UserError: a tokenizer file that cannot be read, see `bpe.read_file`.
    """
    choice = tokenizers.parse(value)
    if choice.kind == "char":
        return CharTokenizer("".join(sorted(set(train) | set(held_out))))
    if choice.kind == "bytes":
        return ByteTokenizer()
    if choice.kind == "file":
        return bpe.read_file(paths.local(choice.path, "tokenizer"))
    if choice.kind == "bpe":
        parts = [train[part] for part in bpe.training_parts(len(train))]
        return bpe.trained(parts, choice.vocab_size, sources.data_home(data_dir) / "tokenizers")
    try:
        return WordTokenizer.from_lines(train.split("\n"), MIN_WORD_COUNT)
    except UserError:
        message = f"word: no word occurs {MIN_WORD_COUNT} times in the training text"
        raise ArgumentError("tokenizer", f"{message}; char, bytes or bpe:SIZE") from None


def describe_tokens(value: str, tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """Returns the metadata of a text's tokens: their kind, their number, the number of all."""
    if isinstance(tokenizer, CharTokenizer):
        return {"distinct_characters": tokenizer.vocab_size}
    return {
        "tokenizer": value,
        SHA256: tokenizer.sha256,
        "distinct_tokens": tokenizer.vocab_size,
        "tokens": count,
    }


def text_baselines(
    baselines: Baselines,
    tokenizer: Tokenizer,
    train: windows.Tokens,
    held_out: windows.Tokens,
    facts: Mapping[str, float],
) -> dict[str, float]:
    """Returns the losses of models without training, in nats per token of the run.

    The n-grams are of characters, or of words for a `WordTokenizer`. For the other tokenizers the
    loss of the held-out characters is divided by their number of tokens, and its name begins with
    "character": so it compares with the loss of the run, and all tokenizers have the same
    baselines in bits per byte.

    Args:
      baselines: the losses of tokens without a model.
      tokenizer: the tokenizer of the run.
      train: training tokens `[length]`.
      held_out: held-out tokens `[held_out]`.
      facts: known losses in nats per character, by name.
    """
    if isinstance(tokenizer, CharTokenizer):
        return baselines(train, held_out, tokenizer.vocab_size) | dict(facts)
    if isinstance(tokenizer, WordTokenizer):
        return baselines(train, held_out, tokenizer.vocab_size)
    samples = _parts_of(train), _parts_of(held_out)
    texts = ["".join(map(tokenizer.decode, parts)) for parts in samples]
    characters = CharTokenizer("".join(sorted(set().union(*texts))))
    losses = baselines(*map(characters.encode, texts), characters.vocab_size)
    per_token = len(texts[1]) / sum(map(len, samples[1]))
    known = {
        f"character {name.replace('tokens', 'characters')}": loss
        for name, loss in losses.items()
        if name != "uniform"
    } | dict(facts)
    scaled = {name: loss * per_token for name, loss in known.items()}
    return {"uniform": math.log(tokenizer.vocab_size)} | scaled


def _parts_of(tokens: windows.Tokens) -> list[np.ndarray]:
    """Returns all tokens, or evenly spaced parts of a text too long to be decoded."""
    if len(tokens) <= MAX_DECODED:
        return [tokens[:]]
    size = MAX_DECODED // PARTS
    starts = [(len(tokens) - size) * index // (PARTS - 1) for index in range(PARTS)]
    return [tokens[start : start + size] for start in starts]


def bptt_data(
    dataset: TextDataset,
    context_length: int,
    batch_size: int,
    seed: int,
    baselines: Baselines,
    tokenizer: str = "char",
    data_dir: str | Path | None = None,
) -> DataModule:
    """Returns the data of a recurrent network, trained by truncated BPTT on contiguous streams.

    A step reads `context_length` tokens of each of `batch_size` streams. The monitored split is
    `held_out`, the last 10 % in a few long segments with the state carried through each, as
    char-rnn evaluates. `held_out_windows` is `held_out` of `lm_data`, which is comparable with
    models of a fixed context.

    Raises:
      UserError: the training text is too short for `batch_size` streams, or a split for one window.
    """
    options = {"argument": "bptt_length", "tokenizer": tokenizer, "data_dir": data_dir}
    data = lm_data(dataset, context_length, seed, baselines, **options)
    streams = ContiguousStreams(tokens=data.train.tokens, context_length=context_length)
    streams.windows(batch_size)  # raises if the text is too short
    held_out = tokenizers.load(data.data_spec).encode(windows.split_text(dataset.text)[1])
    targets = len(held_out) - 1
    rows = min(STREAMS, targets // context_length)
    evaluations = {
        "held_out": windows.consecutive_windows(held_out, -(-targets // rows)),
        "held_out_windows": data.eval_sets["held_out"],
        "train_windows": data.eval_sets["train_windows"],
    }
    return dataclasses.replace(data, train=streams, eval_sets=evaluations, final_eval_sets=dict)
