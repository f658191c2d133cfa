"""A text as data of a language model: split, tokenized, cut into windows."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs.data import windows
from jaxlabs.data.batches import require_window
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.documents import require_several
from jaxlabs.data.texts import LargeText, TextDataset
from jaxlabs.data.token_files import TokenFiles
from jaxlabs.data.tokenized_text import TokenizedText, contiguous_streams, token_stream, tokenize
from jaxlabs.data.tokenizer_base import SHA256
from jaxlabs.data.tokenizers import CharTokenizer, Tokenizer, WordTokenizer

EVALUATION_WINDOWS = 128
"""Windows of each split of the training text."""

OVERLAP = 8
"""Sliding windows that contain each held-out token."""

STREAMS = 64
"""Contiguous segments of the held-out text that a recurrent network reads in parallel."""

Baselines = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
"""`(training tokens, held-out tokens, vocabulary size) -> nats per token`."""

MAX_DECODED, PARTS = 2_000_000, 100
"""Tokens whose characters the baselines count, and evenly spaced parts of a longer text."""


def lm_data(
    dataset: TextDataset | LargeText | TokenFiles,
    context_length: int,
    seed: int,
    baselines: Baselines,
    argument: str = "context_length",
    tokenizer: str = "char",
    data_dir: str | Path | None = None,
    documents: str = "joined",
    eval_tokens: int | None = None,
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
      data_dir: folder of the data sets, which caches a trained tokenizer, and the shards of a text
        that is too large for memory.
      documents: one of `documents.DOCUMENTS`.
      eval_tokens: see `windows.token_limit`.

    Raises:
      ArgumentError: separate documents of a text that is a single one.
      UserError: a split is shorter than one window; the message names `argument`. Or see
        `tokenized_text.tokenize`.
    """
    text = tokenize(dataset, tokenizer, data_dir)
    return _windowed(
        text,
        tokenizer,
        context_length,
        seed,
        baselines,
        argument=argument,
        eval_tokens=eval_tokens,
        separate=documents == "separate",
    )


def _windowed(
    text: TokenizedText,
    value: str,
    context_length: int,
    seed: int,
    baselines: Baselines,
    *,
    argument: str,
    eval_tokens: int | None,
    separate: bool = False,
) -> DataModule:
    """Returns the data of `lm_data` from a text as tokens; `value` is that of `--tokenizer`."""
    train, held_out, encoder = text.train.tokens, text.held_out.tokens, text.tokenizer
    for part in (train, held_out):
        require_window(len(part), context_length, argument)
    sizes, stride = (context_length, EVALUATION_WINDOWS), -(-context_length // OVERLAP)
    of_train = of_held_out = of_both = None
    targets = len(held_out) - 1
    if separate:
        require_several(text.description.get("documents", 1))
        of_train, of_held_out = text.train.documents, text.held_out.documents
        of_both = np.append(of_train, len(train) + of_held_out)
        targets -= np.count_nonzero(of_held_out)  # the first token of a document has no target
    return DataModule(
        train=token_stream(text.train, context_length, separate=separate),
        eval_sets={
            "held_out": windows.consecutive_windows(
                held_out, context_length, eval_tokens, of_held_out
            ),
            "train_windows": windows.evenly_spaced_windows(train, *sizes, of_train),
            "train_and_val": windows.random_windows(text.both, *sizes, seed, of_both),
        },
        final_eval_sets=lambda: {
            "sliding_window": windows.sliding_windows(
                held_out, context_length, stride, eval_tokens, of_held_out
            )
        },
        dataset=text.description
        | describe_tokens(value, encoder, len(train) + len(held_out))
        | text.facts,
        comparable=text.comparable,
        data_spec=encoder.to_json(),
        baselines=lambda: text_baselines(baselines, encoder, train, held_out, text.facts),
        warning=text.warning,
        loss_unit=None if isinstance(encoder, CharTokenizer) else f"nats per {encoder.unit}",
        text_tokens=dict.fromkeys(("held_out", "sliding_window"), int(targets)),
        token_bytes=encoder.token_bytes(),
    )


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
    dataset: TextDataset | LargeText | TokenFiles,
    context_length: int,
    batch_size: int,
    seed: int,
    baselines: Baselines,
    tokenizer: str = "char",
    data_dir: str | Path | None = None,
    eval_tokens: int | None = None,
) -> DataModule:
    """Returns the data of a recurrent network, trained by truncated BPTT on contiguous streams.

    A step reads `context_length` tokens of each of `batch_size` streams. The monitored split is
    `held_out`, the last 10 % in a few long segments with the state carried through each, as
    char-rnn evaluates. `held_out_windows` is `held_out` of `lm_data`, which is comparable with
    models of a fixed context.

    Raises:
      UserError: the training text is too short for `batch_size` streams, or a split for one window.
    """
    text = tokenize(dataset, tokenizer, data_dir)
    rest = {"argument": "bptt_length", "eval_tokens": eval_tokens}
    data = _windowed(text, tokenizer, context_length, seed, baselines, **rest)
    streams = contiguous_streams(text.train, context_length)
    streams.windows(batch_size)  # raises if the text is too short
    held_out = text.held_out.tokens
    evaluations = {
        "held_out": windows.long_windows(held_out, context_length, STREAMS, eval_tokens),
        "held_out_windows": data.eval_sets["held_out"],
        "train_windows": data.eval_sets["train_windows"],
    }
    return dataclasses.replace(
        data,
        train=streams,
        eval_sets=evaluations,
        final_eval_sets=dict,
        text_tokens=dict.fromkeys(("held_out", "held_out_windows"), len(held_out) - 1),
    )
