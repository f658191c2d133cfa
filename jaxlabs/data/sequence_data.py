"""Sequence pairs as data: split, tokenized, padded.

Sources have no `<sos>` and end with `<eos>`, where a unidirectional encoder has read the sentence.
"""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import Config, UserError, positive
from jaxlabs.data import sequence_files, sources
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.grammars import next_word, sentiment, tagging, translation
from jaxlabs.data.sequence_files import Pair
from jaxlabs.data.vocab import END, PADDING, Vocab, pad

GRAMMARS: dict[str, ModuleType] = {
    "next_word": next_word,
    "sentiment": sentiment,
    "tagging": tagging,
    "translation": translation,
}
"""By task. Each has `TRAIN_LENGTHS`, `OOD_LENGTHS`, `sample` and `optimum`."""

GRAMMAR = "grammar"
SPECIAL_TOKENS = ("<pad>", "<sos>", "<eos>")
"""Of the ids PADDING, START and END."""

NUM_EXAMPLES, MAX_NAMED = 3, 10
"""Test sentences that a run predicts as its samples; limit of labels that a warning names."""

LONG_SHARE, TEST_SHARE = 0.1, 0.1
"""Share of the longest sentences of a file in `long`, and share of the others in `test`."""

Splits = dict[str, list[Pair]]
Baselines = Callable[[str, Splits], dict[str, float]]
"""`(task, splits) -> metrics by name`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceDataConfig(Config):
    """Numbers of sentences to sample from a grammar."""

    train_sentences: int = positive(
        100_000, "number of training sentences sampled from the grammar", maximum=10**7
    )
    test_sentences: int = positive(
        1000, "number of sentences of each of the splits test and long", maximum=10**6
    )


def load_splits(
    task: str, dataset: str, seed: int, sizes: SequenceDataConfig
) -> tuple[Splits, str | None]:
    """Returns the pairs of `train`, `test` and `long`, and a warning about omitted lines, if any.

    The splits share no source, those of a file of `next_word` no sentence. All sources in `long`
    are longer than those in `train` and `test`.
    The sentences of a file are shuffled by the seed; a tenth are `test`, stratified by label for
    labeled sentences; sources longer than the 0.9 quantile are `long`, which is omitted if empty.

    Raises:
      UserError: no such data set; a file that is unreadable or has too few sentences.
    """
    if dataset == GRAMMAR:
        return _sample_splits(GRAMMARS[task], seed, sizes), None
    path = paths.local(dataset, "dataset")
    if not dataset or not os.path.exists(path):
        raise sources.unknown(f"no data set or file {dataset!r}", dataset, [GRAMMAR], "a file")
    groups, warnings = sequence_files.read(task, path)
    splits = _split_groups(groups, path, seed, by_label=task == "sentiment")
    if task in ("sentiment", "tagging"):
        warnings += _absent_labels(splits)
    return splits, f"{path}: {'; '.join(warnings)}" if warnings else None


def _split_groups(groups: list[list[Pair]], path: Path, seed: int, by_label: bool) -> Splits:
    """Splits groups of pairs without dividing a group."""
    lengths = [len(source) for pairs in groups for source, _ in pairs]
    threshold = np.quantile(lengths, 1 - LONG_SHARE, method="lower")
    np.random.default_rng(seed).shuffle(groups)
    classes = [range(len(groups))]
    if by_label:
        classes = _by_rarest_label(groups)
        # A label with only long sentences still has a training and a test sentence.
        shortest = [sorted(len(groups[index][0][0]) for index in one)[:2] for one in classes]
        threshold = max(threshold, *(lengths[-1] for lengths in shortest))

    def pairs_at(indices: Iterable[int], is_long: bool) -> list[Pair]:
        pairs = [pair for index in indices for pair in groups[index]]
        return [pair for pair in pairs if (len(pair[0]) > threshold) == is_long]

    has_short = [bool(pairs_at([index], False)) for index in range(len(groups))]
    tests = set()
    for one in classes:
        short = [index for index in one if has_short[index]]
        tests.update(short[: min(max(1, round(TEST_SHARE * len(short))), len(short) - 1)])
    if not tests:
        raise UserError(f"{path}: too few different sentences ({len(groups)}) to hold some out")
    train = [index for index in range(len(groups)) if index not in tests]
    all_long = [index for index in train if not has_short[index]]
    splits = {"train": pairs_at(train, False), "test": pairs_at(sorted(tests), False)}
    long = pairs_at([*sorted(tests), *all_long], True)
    return splits | ({"long": long} if long else {})


def _by_rarest_label(groups: list[list[Pair]]) -> list[list[int]]:
    """Returns the indices of the groups by label, the rarest label of each group."""
    counts = collections.Counter(label for pairs in groups for _, label in pairs)
    classes = collections.defaultdict(list)
    for index, pairs in enumerate(groups):
        classes[min((counts[label], label) for _, label in pairs)].append(index)
    return list(classes.values())


def _absent_labels(splits: Splits) -> list[str]:
    """Returns a line for each of train and test that lacks some of the labels."""
    labels = {
        name: {label for _, target in part for label in target} for name, part in splits.items()
    }
    known = set.union(*labels.values())
    warnings = []
    for name, part in (("training", "train"), ("test", "test")):
        if absent := sorted(known - labels[part]):
            named = ", ".join(absent[:MAX_NAMED]) + ", ..." * (len(absent) > MAX_NAMED)
            warnings.append(f"no {name} sentence has {named}")
    return warnings


def _sample_splits(grammar: ModuleType, seed: int, sizes: SequenceDataConfig) -> Splits:
    rng = np.random.default_rng(seed)

    def sample(lengths: range) -> Pair:
        source, target = grammar.sample(rng, lengths)
        return tuple(source), tuple(target)

    def unseen(lengths: range, count: int, known: set) -> list[Pair]:
        found = {}
        while len(found) < count:
            source, target = sample(lengths)
            if source not in known:
                found[source] = target
        return list(found.items())

    train = [sample(grammar.TRAIN_LENGTHS) for _ in range(sizes.train_sentences)]
    known = {source for source, _ in train}
    return {
        "train": train,
        "test": unseen(grammar.TRAIN_LENGTHS, sizes.test_sentences, known),
        "long": unseen(grammar.OOD_LENGTHS, sizes.test_sentences, known),
    }


def sequence_data(
    task: str, dataset: str, seed: int, sizes: SequenceDataConfig, baselines: Baselines
) -> DataModule:
    """Returns the data of a run.

    Batches hold `inputs [batch, source_time]`, `targets [batch, target_time]` (one column where a
    sentence has one label) and `weights`, 0 where a target is padding. Translations end with
    `<eos>`. The evaluation sets are `test`, which is monitored, and `long` after the last step.

    The task is a key of GRAMMARS, the data set "grammar" or the path of a file in a format of
    `sequence_files`; the seed is that of the samples or of the split.

    Raises:
      UserError: see `load_splits`.
    """
    splits, warning = load_splits(task, dataset, seed, sizes)
    pairs = [pair for part in splits.values() for pair in part]
    vocabs = _vocab(source for source, _ in pairs), _vocab(target for _, target in pairs)
    ends = task == "translation"
    sets = {name: examples(part, *vocabs, ends) for name, part in splits.items()}
    optima = {
        f"{name}_{metric}": value
        for name, part in splits.items()
        if dataset == GRAMMAR and name != "train"
        for metric, value in GRAMMARS[task].optimum(*zip(*part, strict=True)).items()
    }
    origin = {"name": f"{task} {GRAMMAR}", "source": "a synthetic grammar"}
    if dataset != GRAMMAR:
        origin = {"name": dataset, "source": str(paths.local(dataset, "dataset").resolve())}
    origin["sha256"] = hashlib.sha256(json.dumps(splits).encode()).hexdigest()
    shapes = [part.arrays for part in sets.values()]
    return DataModule(
        train=sets["train"],
        eval_sets={"test": sets["test"]},
        final_eval_sets=lambda: {name: sets[name] for name in sets if name == "long"},
        dataset=origin | {f"{name}_sentences": len(part) for name, part in splits.items()},
        data_spec={
            "sources": list(vocabs[0].words),
            "targets": list(vocabs[1].words),
            "source_length": max(arrays["inputs"].shape[1] for arrays in shapes),
            "target_length": max(arrays["targets"].shape[1] for arrays in shapes),
            "examples": [[" ".join(s), " ".join(t)] for s, t in splits["test"][:NUM_EXAMPLES]],
        },
        baselines=lambda: baselines(task, splits) | optima,
        warning=warning,
    )


def load_vocabs(data_spec: Mapping[str, Any]) -> tuple[Vocab, Vocab]:
    """Returns the vocabularies of sources and targets of a run."""
    source, target = (tuple(data_spec[name]) for name in ("sources", "targets"))
    return Vocab(source, SPECIAL_TOKENS), Vocab(target, SPECIAL_TOKENS)


def _vocab(sequences: Iterable[Sequence[str]]) -> Vocab:
    """Returns the vocabulary of all words of some sequences, in alphabetical order."""
    words = sorted({word for sequence in sequences for word in sequence})
    return Vocab(tuple(words), SPECIAL_TOKENS)


def examples(pairs: Sequence[Pair], source: Vocab, target: Vocab, ends: bool) -> Examples:
    """Returns pairs as padded arrays; `ends`: whether targets end with `<eos>`."""
    targets = pad([target.encode(words) + [END] * ends for _, words in pairs])
    inputs = pad([[*source.encode(words), END] for words, _ in pairs])
    weights = (targets != PADDING).astype(np.float32)
    return Examples({"inputs": inputs, "targets": targets, "weights": weights})
