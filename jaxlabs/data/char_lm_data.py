"""A text as data for a character language model: tokenized, split, cut into windows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxlabs.data import windows
from jaxlabs.data.batches import ContiguousStreams
from jaxlabs.data.dataset import Data
from jaxlabs.data.texts import TextDataset
from jaxlabs.data.tokenizers import CharTokenizer

EVALUATION_WINDOWS = 128
"""Windows of the two splits that are sampled; the held-out text is always read whole."""

OVERLAP = 8
"""Windows of the sliding-window figure that read each held-out character."""

STREAMS = 64
"""Stretches of the held-out text that a recurrent network reads side by side."""

Baselines = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]


def language_data(
    dataset: TextDataset, context_length: int, seed: int, baselines: Baselines
) -> Data:
    """Returns the data of a run on one text.

    Three losses are told apart, each a mean over all positions of windows of one context length:
    `held_out`, consecutive windows over the last 10 %, the headline; `train_windows`, windows of
    the training text; `whole_text`, random windows of everything, which mostly were trained on.
    After the last step comes `sliding_window`: the held-out part again, in windows that overlap by
    seven eighths, so that each character is predicted from almost a full context.

    Args:
      dataset: the text.
      context: characters that the model sees at once.
      seed: draws the windows of `whole_text`.
      baselines: `(training tokens, held-out tokens, vocabulary size) -> nats per character`.

    Raises:
      UserError: a split is shorter than one window.
    """
    tokenizer = CharTokenizer.from_text(dataset.text)
    train, held_out = (_tokens(tokenizer, part) for part in windows.split_text(dataset.text))
    whole = np.concatenate([train, held_out])
    return Data(
        train=windows.token_stream(train, context_length),
        evaluations={
            "held_out": windows.consecutive_windows(held_out, context_length),
            "train_windows": windows.evenly_spaced_windows(
                train, context_length, EVALUATION_WINDOWS
            ),
            "whole_text": windows.random_windows(whole, context_length, EVALUATION_WINDOWS, seed),
        },
        final_eval_sets=lambda: {
            "sliding_window": windows.sliding_windows(
                held_out, context_length, -(-context_length // OVERLAP)
            )
        },
        dataset={
            "name": dataset.name,
            "source": dataset.source,
            "sha256": dataset.sha256,
            "characters": len(dataset.text),
            "distinct_characters": tokenizer.vocabulary_size,
        }
        | dataset.facts,
        comparable=dataset.comparable,
        vocabulary=tokenizer.to_json(),
        baselines=lambda: baselines(train, held_out, tokenizer.vocabulary_size) | dataset.facts,
        notice=dataset.notice,
    )


def bptt_data(
    dataset: TextDataset, context_length: int, batch_size: int, seed: int, baselines: Baselines
) -> Data:
    """Returns the data of a recurrent network, which reads a text from end to end.

    Its headline is `held_out`, the last 10 % in a few long stretches through each of which the
    state is carried, as char-rnn evaluates; `held_out_windows` is what `language_data` calls
    held_out, the figure to set against models that see one context.

    Args:
      dataset: the text.
      context: characters through which gradients reach back.
      batch_size: streams that are read side by side in training.
      seed: see `language_data`.
      baselines: see `language_data`.

    Raises:
      UserError: the training text is too short for so many streams, or a split for one window.
    """
    data = language_data(dataset, context_length, seed, baselines)
    streams = ContiguousStreams(tokens=data.train.tokens, context_length=context_length)
    streams.windows(batch_size)  # says so if it is too short
    held_out = CharTokenizer.from_json(data.vocabulary).encode(windows.split_text(dataset.text)[1])
    targets = len(held_out) - 1
    rows = min(STREAMS, targets // context_length)
    evaluations = {
        "held_out": windows.consecutive_windows(held_out, -(-targets // rows)),
        "held_out_windows": data.evaluations["held_out"],
        "train_windows": data.evaluations["train_windows"],
    }
    return dataclasses.replace(data, train=streams, evaluations=evaluations, final_eval_sets=dict)


def _tokens(tokenizer: CharTokenizer, part: str) -> np.ndarray:
    """Returns token numbers in the narrowest type that holds them: the text lives on the device."""
    narrow = np.min_scalar_type(tokenizer.vocabulary_size)
    return tokenizer.encode(part).astype(narrow)
