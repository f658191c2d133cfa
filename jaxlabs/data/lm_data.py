"""A text as data of a character language model: tokenized, split, cut into windows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxlabs.data import windows
from jaxlabs.data.batches import ContiguousStreams, require_window
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.texts import TextDataset
from jaxlabs.data.tokenizers import CharTokenizer

EVALUATION_WINDOWS = 128
"""Windows of each sampled split; the held-out text is always evaluated in full."""

OVERLAP = 8
"""Sliding windows that contain each held-out character."""

STREAMS = 64
"""Contiguous segments of the held-out text that a recurrent network reads in parallel."""

Baselines = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
"""`(training tokens, held-out tokens, vocabulary size) -> nats per token`."""


def lm_data(
    dataset: TextDataset,
    context_length: int,
    seed: int,
    baselines: Baselines,
    argument: str = "context_length",
) -> DataModule:
    """Returns the data of a run on one text: windows of `context_length` characters.

    Each loss is a mean over all positions of windows of one context length:

    - `held_out`: consecutive windows of the last 10 %; the monitored split;
    - `train_windows`: windows of the training text;
    - `train_and_val`: random windows of the whole text by `seed`, nine tenths of which was trained
      on;
    - `sliding_window`, after the last step: windows of the held-out text that overlap by seven
      eighths, so that each character is predicted from an almost full context.

    Raises:
      UserError: a split is shorter than one window; the message names `argument`.
    """
    tokenizer = CharTokenizer.from_text(dataset.text)
    train, held_out = (tokenizer.encode(part) for part in windows.split_text(dataset.text))
    for part in (train, held_out):
        require_window(len(part), context_length, argument)
    both, sizes = np.concatenate([train, held_out]), (context_length, EVALUATION_WINDOWS)
    stride = -(-context_length // OVERLAP)
    return DataModule(
        train=windows.token_stream(train, context_length),
        eval_sets={
            "held_out": windows.consecutive_windows(held_out, context_length),
            "train_windows": windows.evenly_spaced_windows(train, *sizes),
            "train_and_val": windows.random_windows(both, *sizes, seed),
        },
        final_eval_sets=lambda: {
            "sliding_window": windows.sliding_windows(held_out, context_length, stride)
        },
        dataset=dataset.describe()
        | {"characters": len(dataset.text), "distinct_characters": tokenizer.vocab.size}
        | dataset.facts,
        comparable=dataset.comparable,
        data_spec=tokenizer.to_json(),
        baselines=lambda: baselines(train, held_out, tokenizer.vocab.size) | dataset.facts,
        warning=dataset.warning,
    )


def bptt_data(
    dataset: TextDataset, context_length: int, batch_size: int, seed: int, baselines: Baselines
) -> DataModule:
    """Returns the data of a recurrent network, trained by truncated BPTT on contiguous streams.

    A step reads `context_length` characters of each of `batch_size` streams. The monitored split is
    `held_out`, the last 10 % in a few long segments with the state carried through each, as
    char-rnn evaluates. `held_out_windows` is `held_out` of `lm_data`, which is comparable with
    models of a fixed context.

    Raises:
      UserError: the training text is too short for `batch_size` streams, or a split for one window.
    """
    data = lm_data(dataset, context_length, seed, baselines, argument="bptt_length")
    streams = ContiguousStreams(tokens=data.train.tokens, context_length=context_length)
    streams.windows(batch_size)  # raises if the text is too short
    held_out = CharTokenizer.from_json(data.data_spec).encode(windows.split_text(dataset.text)[1])
    targets = len(held_out) - 1
    rows = min(STREAMS, targets // context_length)
    evaluations = {
        "held_out": windows.consecutive_windows(held_out, -(-targets // rows)),
        "held_out_windows": data.eval_sets["held_out"],
        "train_windows": data.eval_sets["train_windows"],
    }
    return dataclasses.replace(data, train=streams, eval_sets=evaluations, final_eval_sets=dict)
