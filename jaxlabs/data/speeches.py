"""Sentences of three speakers, for speaker classification and language modeling.

A data set of speeches is a folder of six files: `train_CLS.tsv` and `test_CLS.tsv` with a label (0,
1 or 2), a tab and a sentence per line, and `train_LM.txt` and three `test_LM_<speaker>.txt` with a
sentence per line. The vocabulary is that of both training files.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import sources
from jaxlabs.data.dataset import Dataset
from jaxlabs.data.sequence_files import LABELED, read_columns
from jaxlabs.data.speaker_grammar import SpeakerGrammar
from jaxlabs.data.tokenizers import UNKNOWN, WordTokenizer

SPEAKERS = {"obama": "Obama", "wbush": "W. Bush", "hbush": "H. Bush"}
"""Names of the speakers by key of the file name, in the order of the labels."""

TRAIN_SENTENCES, TEST_SENTENCES, TRAIN_TEXT = "train_CLS.tsv", "test_CLS.tsv", "train_LM.txt"
TEST_TEXTS = {speaker: f"test_LM_{speaker}.txt" for speaker in SPEAKERS}
FILES = (TRAIN_SENTENCES, TEST_SENTENCES, TRAIN_TEXT, *TEST_TEXTS.values())

PUBLISHED = "speeches"
SYNTHETIC = "speaker_grammar"
NAMES = (PUBLISHED, SYNTHETIC)
SHA256 = "97b00a7686632a1e9c253129376d45d76cb71a98d5c2415e85ae5ffdac991dfc"
"""Hash of the six files of the UCSD CSE 256 assignment, see `_sha256`."""

# Numbers of sentences of the published files.
SYNTHETIC_COUNTS = {TRAIN_SENTENCES: 2092, TEST_SENTENCES: 750, TRAIN_TEXT: 1553}
SYNTHETIC_COUNTS |= dict.fromkeys(TEST_TEXTS.values(), 250)


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Sentences and their speakers: `labels[i]` is the index of the speaker of `texts[i]`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speeches(Dataset):
    """The six files and their origin."""

    train: Sentences  #: training sentences of the classifier
    test: Sentences  #: test sentences of the classifier
    train_text: str  #: training text of the language model, a sentence per line
    test_texts: Mapping[str, str]  #: test texts of one speaker each, by the keys of SPEAKERS
    #: exact optimum of the classifier on a synthetic source: "bayes_accuracy", and "bayes_loss" in
    #: nats
    speaker_facts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    #: exact optimum of the language model, in nats per token: "entropy_rate" for `train_text`,
    #: "<speaker>_cross_entropy" for `test_texts`
    text_facts: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def tokenizer(self) -> WordTokenizer:
        """Tokenizer of the words of both training files."""
        return WordTokenizer.from_lines([*self.train.texts, self.train_text])

    def oov_rates(self) -> dict[str, float]:
        """Returns the fraction of out-of-vocabulary tokens, by test file."""
        texts = {TEST_SENTENCES: "\n".join(self.test.texts)}
        texts |= {TEST_TEXTS[speaker]: text for speaker, text in self.test_texts.items()}
        return {
            file: float(np.mean(self.tokenizer.encode(text) == UNKNOWN))
            for file, text in texts.items()
        }

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "distinct_tokens": self.tokenizer.vocab.size,
            "oov_rates": self.oov_rates(),
        }


def load(name: str, data_dir: str | Path | None = None) -> Speeches:
    """Returns speeches by name, or those of a folder by its path.

    `speeches` are searched in `data_dir`/speeches. They have no permanent URL; the fallback is
    `speaker_grammar`, and the result's `warning` names it.

    Args:
      name: one of `NAMES`, or the path to a folder of six files with the names in `FILES`.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.

    Raises:
      UserError: unknown name or missing folder; files that are missing, empty or not UTF-8; a line
        without a tab or a sentence; a label that is not 0, 1 or 2.
    """
    if name == SYNTHETIC:
        return _synthetic()
    if name != PUBLISHED:
        folder = paths.local(name, "dataset")
        if not name or not folder.is_dir():
            found = f"no data set or folder {name!r}"
            raise sources.unknown(found, name, NAMES, f"a folder with {', '.join(FILES)}")
        return _folder(name, folder)
    folder = sources.data_home(data_dir) / PUBLISHED
    if not folder.is_dir():
        return _synthetic().in_place_of(f"speeches are not in {folder} and have no permanent URL")
    speeches = _folder(PUBLISHED, folder)
    if speeches.sha256 == SHA256:
        return dataclasses.replace(speeches, comparable=True)
    warning = (
        f"{folder}: not the published files, so metrics are not comparable with published results"
    )
    return dataclasses.replace(speeches, warning=warning)


def _folder(name: str, folder: Path) -> Speeches:
    missing = [file for file in FILES if not (folder / file).exists()]
    if missing:
        raise UserError(f"{folder}: {', '.join(missing)} missing; needed are {', '.join(FILES)}")
    files = {file: sources.read_text_file(folder / file) for file in FILES}
    return _speeches(name, files, folder=folder, source=str(folder.resolve()))


def _speeches(name: str, files: Mapping[str, str], folder: Path, source: str) -> Speeches:
    # Copies differ in line ends, which are irrelevant here.
    files = {file: text.replace("\r\n", "\n") for file, text in files.items()}
    for file, text in files.items():
        if not text.strip():
            raise UserError(f"{folder / file}: holds no sentence; one per line is needed")
    return Speeches(
        name=name,
        train=_sentences(folder / TRAIN_SENTENCES, files[TRAIN_SENTENCES]),
        test=_sentences(folder / TEST_SENTENCES, files[TEST_SENTENCES]),
        train_text=files[TRAIN_TEXT],
        test_texts={speaker: files[file] for speaker, file in TEST_TEXTS.items()},
        source=source,
        sha256=_sha256(files),
    )


def _sentences(path: Path, content: str) -> Sentences:
    accepted = [str(label) for label in range(len(SPEAKERS))]
    labels, texts = [], []
    for number, (label, text) in read_columns(path, content.split("\n"), LABELED, (2,)):
        if label.strip() not in accepted:
            raise UserError(
                f"{path}, line {number}: label {label!r} is not accepted; {', '.join(accepted)}"
            )
        labels.append(int(label))
        texts.append(text.strip())
    absent = [name for number, name in enumerate(SPEAKERS.values()) if number not in labels]
    if absent:
        raise UserError(f"{path}: no sentence of {', '.join(absent)}; every label is needed")
    return Sentences(tuple(texts), tuple(labels))


def _sha256(files: Mapping[str, str]) -> str:
    """Returns the hash of the hashes of all files, in the order of FILES."""
    hashes = "".join(sources.text_sha256(files[file]) for file in FILES)
    return hashlib.sha256(hashes.encode()).hexdigest()


def _synthetic() -> Speeches:
    grammar, rng = SpeakerGrammar.random(), np.random.default_rng(0)
    files = {}
    for file, count in SYNTHETIC_COUNTS.items():
        speakers = rng.integers(len(SPEAKERS), size=count)
        if file in TEST_TEXTS.values():
            speakers[:] = list(TEST_TEXTS.values()).index(file)
        lines = grammar.sample(speakers, rng)
        if file in (TRAIN_SENTENCES, TEST_SENTENCES):
            lines = [f"{speaker}\t{line}" for speaker, line in zip(speakers, lines, strict=True)]
        files[file] = "\n".join(lines)
    source = "synthetic sentences of three speakers"
    return dataclasses.replace(
        _speeches(SYNTHETIC, files, folder=Path(SYNTHETIC), source=source),
        speaker_facts={name: getattr(grammar, name) for name in ("bayes_accuracy", "bayes_loss")},
        text_facts={"entropy_rate": grammar.cross_entropy()}
        | {
            f"{speaker}_cross_entropy": grammar.cross_entropy(number)
            for number, speaker in enumerate(SPEAKERS)
        },
    )
