"""Pairs of sequences as a lab's data: split, numbered, padded.

Sources begin with no mark and end with `<eos>`, where a model that reads but one way has read all.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import Config, UserError, nearest, setting
from jaxlabs.data import sequence_files
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.grammars import next_word, sentiment, tagging, translation
from jaxlabs.data.sequence_files import Pair

GRAMMARS: dict[str, ModuleType] = {
    "next_word": next_word,
    "sentiment": sentiment,
    "tagging": tagging,
    "translation": translation,
}
"""By task. Each has `LENGTHS`, `LONGER`, `draw` and `optimum`."""

GRAMMAR = "grammar"
PADDING, START, END = 0, 1, 2
SPECIAL = ("<pad>", "<sos>", "<eos>")
SHOWN, NAMED = 3, 10
"""Test sentences that a run's samples show; labels that a notice names."""

LONG_SHARE, TEST_SHARE = 0.1, 0.1
"""Of a user's sentences: the longest go to `longer`, and of the others some to `test`."""

Splits = dict[str, list[Pair]]
Baselines = Callable[[str, Splits], dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceDataConfig(Config):
    """How much is drawn from a grammar."""

    train_sentences: int = setting(
        100_000, "drawn from the grammar to train on", minimum=1, maximum=10_000_000
    )
    test_sentences: int = setting(
        1000, "drawn for each of test and longer", minimum=1, maximum=1_000_000
    )


@dataclasses.dataclass(frozen=True)
class Vocab:
    """Words to numbers and back; 0, 1 and 2 are `<pad>`, `<sos>` and `<eos>`.

    Attributes:
      words: the known words, distinct.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, sequences: Iterable[Sequence[str]]) -> "Vocab":
        """Returns the numbering of all words of some sequences, in alphabetical order."""
        return cls(tuple(sorted({word for words in sequences for word in words})))

    @property
    def size(self) -> int:
        """How many numbers there are, the three marks included."""
        return len(SPECIAL) + len(self.words)

    def encode(self, words: Sequence[str]) -> list[int]:
        """Returns the numbers of words.

        Raises:
          UserError: some are unknown; it names them.
        """
        unknown = [word for word in words if word not in self._numbers]
        if unknown:
            named = ", ".join(map(repr, dict.fromkeys(unknown)))
            some = ", ".join(self.words[:60]) + ", ..." * (len(self.words) > 60)
            raise UserError(f"unknown words {named}; known are {some}")
        return [self._numbers[word] for word in words]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Returns the words of numbers up to the first `<eos>` or padding."""
        words = []
        for number in numbers:
            if number in (PADDING, END):
                break
            words.append(self.names[number])
        return words

    def number_of(self, word: str, otherwise: int) -> int:
        """Returns the number of a word, or `otherwise` where it is unknown."""
        return self._numbers.get(word, otherwise)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """What each number stands for."""
        return SPECIAL + self.words

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=len(SPECIAL))}


def splits_of(
    task: str, dataset: str, seed: int, sizes: SequenceDataConfig
) -> tuple[Splits, str | None]:
    """Returns the pairs of `train`, `test` and `longer`, and one line on what was left out, if any.

    No source of one stands in another. Lengths in `longer` are such as training never has. A user's
    sentences are shuffled by the seed, and a tenth go to `test`, of every label if they have one;
    sources longer than nine tenths of all go to `longer`, which is missing where there are none.

    Raises:
      UserError: no such data set; a file that cannot be read or holds too few sentences.
    """
    if dataset == GRAMMAR:
        return _drawn(GRAMMARS[task], seed, sizes), None
    path = paths.local(dataset, "--dataset")
    if not dataset or not os.path.exists(path):
        raise UserError(
            f"--dataset: no data set or file {dataset!r}; accepted are {GRAMMAR} or the path to a"
            f" file{nearest(dataset, [GRAMMAR])}"
        )
    groups, notices = sequence_files.read(task, path)
    splits = _shuffled(groups, path, seed, by_label=task == "sentiment")
    if task in ("sentiment", "tagging"):
        notices += _absent_labels(splits)
    return splits, f"{path}: {'; '.join(notices)}" if notices else None


def _shuffled(groups: list[list[Pair]], path: Path, seed: int, by_label: bool) -> Splits:
    """Splits groups of pairs, each of which stays on one side."""
    lengths = [len(source) for pairs in groups for source, _ in pairs]
    border = np.quantile(lengths, 1 - LONG_SHARE, method="lower")
    np.random.default_rng(seed).shuffle(groups)
    classes = [range(len(groups))]
    if by_label:
        classes = _by_rarest_label(groups)
        # Also of a label whose sentences are long there is one to train on and one to test on.
        shortest = [sorted(len(groups[place][0][0]) for place in one)[:2] for one in classes]
        border = max(border, *(lengths[-1] for lengths in shortest))

    def pairs_at(places: Iterable[int], long: bool) -> list[Pair]:
        pairs = [pair for place in places for pair in groups[place]]
        return [pair for pair in pairs if (len(pair[0]) > border) == long]

    has_short = [bool(pairs_at([place], False)) for place in range(len(groups))]
    tests = set()
    for one in classes:
        short = [place for place in one if has_short[place]]
        tests.update(short[: min(max(1, round(TEST_SHARE * len(short))), len(short) - 1)])
    if not tests:
        raise UserError(f"{path}: too few different sentences ({len(groups)}) to hold some out")
    train = [place for place in range(len(groups)) if place not in tests]
    all_long = [place for place in train if not has_short[place]]
    splits = {"train": pairs_at(train, False), "test": pairs_at(sorted(tests), False)}
    longer = pairs_at([*sorted(tests), *all_long], True)
    return splits | ({"longer": longer} if longer else {})


def _by_rarest_label(groups: list[list[Pair]]) -> list[list[int]]:
    """Returns the places of the groups by label; of several labels of a group the rarest counts."""
    counts = collections.Counter(label for pairs in groups for _, label in pairs)
    classes = collections.defaultdict(list)
    for place, pairs in enumerate(groups):
        classes[min((counts[label], label) for _, label in pairs)].append(place)
    return list(classes.values())


def _absent_labels(splits: Splits) -> list[str]:
    """Returns a line for each of training and test sentences that lack some of the labels."""
    labels = {
        name: {label for _, target in part for label in target} for name, part in splits.items()
    }
    known = set.union(*labels.values())
    absent = {
        "train on": sorted(known - labels["train"]),
        "test on": sorted(known - labels["test"]),
    }
    return [
        f"no sentence to {purpose} has {', '.join(names[:NAMED])}{', ...' * (len(names) > NAMED)}"
        for purpose, names in absent.items()
        if names
    ]


def _drawn(grammar: ModuleType, seed: int, sizes: SequenceDataConfig) -> Splits:
    generator = np.random.default_rng(seed)

    def draw(lengths: range) -> Pair:
        source, target = grammar.draw(generator, lengths)
        return tuple(source), tuple(target)

    def unseen(lengths: range, count: int, known: set) -> list[Pair]:
        found = {}
        while len(found) < count:
            source, target = draw(lengths)
            if source not in known:
                found[source] = target
        return list(found.items())

    train = [draw(grammar.LENGTHS) for _ in range(sizes.train_sentences)]
    known = {source for source, _ in train}
    return {
        "train": train,
        "test": unseen(grammar.LENGTHS, sizes.test_sentences, known),
        "longer": unseen(grammar.LONGER, sizes.test_sentences, known),
    }


def sequence_data(
    task: str, dataset: str, seed: int, sizes: SequenceDataConfig, baselines: Baselines
) -> Data:
    """Returns the data of a run.

    Batches hold `inputs [batch, source time]`, `targets [batch, target time]` (one column where a
    sentence has one label) and `weights`, 0 where a target is padding. Translations end with
    `<eos>`. Evaluated are `test`, the headline, and after the last step `longer`.

    Args:
      task: a key of GRAMMARS.
      dataset: "grammar", or the path of a file as `sequence_files` says.
      seed: of what is drawn or shuffled.
      sizes: how much is drawn.
      baselines: `(task, splits) -> figures by name`.

    Raises:
      UserError: as `splits_of`.
    """
    splits, notice = splits_of(task, dataset, seed, sizes)
    pairs = [pair for part in splits.values() for pair in part]
    load_vocabs = Vocab.of(s for s, _ in pairs), Vocab.of(t for _, t in pairs)
    ends = task == "translation"
    sets = {name: examples(part, *load_vocabs, ends) for name, part in splits.items()}
    optima = {
        f"{name}_{figure}": value
        for name, part in splits.items()
        if dataset == GRAMMAR and name != "train"
        for figure, value in GRAMMARS[task].optimum(*zip(*part, strict=True)).items()
    }
    source = "a made-up grammar"
    if dataset != GRAMMAR:
        source = str(paths.local(dataset, "--dataset").resolve())
    digest = hashlib.sha256(json.dumps(splits).encode()).hexdigest()
    shapes = [part.arrays for part in sets.values()]
    return Data(
        train=sets["train"],
        evaluations={"test": sets["test"]},
        final_eval_sets=lambda: {name: sets[name] for name in sets if name == "longer"},
        dataset={
            "name": f"{task} {GRAMMAR}" if dataset == GRAMMAR else dataset,
            "source": source,
            "sha256": digest,
        }
        | {f"{name}_sentences": len(part) for name, part in splits.items()},
        comparable=False,
        vocabulary={
            "sources": list(load_vocabs[0].words),
            "targets": list(load_vocabs[1].words),
            "source_length": max(arrays["inputs"].shape[1] for arrays in shapes),
            "target_length": max(arrays["targets"].shape[1] for arrays in shapes),
            "shown": [[" ".join(s), " ".join(t)] for s, t in splits["test"][:SHOWN]],
        },
        baselines=lambda: baselines(task, splits) | optima,
        notice=notice,
    )


def load_vocabs(vocabulary: Mapping[str, Any]) -> tuple[Vocab, Vocab]:
    """Returns the load_vocabs of sources and targets from a run's vocabulary."""
    return Vocab(tuple(vocabulary["sources"])), Vocab(tuple(vocabulary["targets"]))


def examples(pairs: Sequence[Pair], source: Vocab, target: Vocab, ends: bool) -> Examples:
    """Returns pairs as padded arrays; `ends` says whether targets end with `<eos>`."""
    targets = pad([target.encode(words) + [END] * ends for _, words in pairs])
    inputs = pad([[*source.encode(words), END] for words, _ in pairs])
    weights = (targets != PADDING).astype(np.float32)
    return Examples({"inputs": inputs, "targets": targets, "weights": weights})


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns rows as [count, longest] int32, filled up with padding."""
    filled = np.full((len(rows), max(map(len, rows))), PADDING, np.int32)
    for row, numbers in zip(filled, rows, strict=True):
        row[: len(numbers)] = numbers
    return filled
