"""Text data sets, by name or by the path of a file or folder.

A text larger than `--memory_limit` is not read into memory, see `jaxlabs.data.prepare`.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from jaxlabs import paths
from jaxlabs.config import Config, UserError, runtime, setting
from jaxlabs.data import sources, text_files, token_files
from jaxlabs.data.dataset import Dataset
from jaxlabs.data.synthetic import MarkovSource, WordSource
from jaxlabs.data.text_files import TextFiles
from jaxlabs.data.token_files import TokenFiles

MARKOV_CHARACTERS = 500_000
TOY_WORDS = 10_000

MAX_IN_MEMORY = 2**25
"""Bytes of text that are read into memory by default; a larger text takes seconds to encode."""

PATH = (
    "the path of a UTF-8 text, JSON lines (.jsonl), either with .gz or .zst, array_record, token"
    " shards (.bin), or a folder of these"
)
"""What `--dataset` accepts beside names, for `--help`."""

ACCEPTED = "a UTF-8 text file, or a folder of them"
"""The same in short, for error messages."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFilesConfig(Config):
    """How the files of a text are read."""

    text_key: str = setting("text", "key of the text in each line of JSON lines", section="data")
    memory_limit: int | None = runtime(
        None,
        "bytes of text up to which it is read into memory; a larger text is encoded once into"
        f" memory-mapped shards in --data_dir, with the same result; none: {MAX_IN_MEMORY:,}, or a"
        " quarter of the memory of the machine if that is less",
        minimum=0,
        maximum=2**60,
        section="data",
    )

    @property
    def max_in_memory(self) -> int:
        """Bytes of the largest text that is read into memory."""
        if self.memory_limit is not None:
            return self.memory_limit
        return min(MAX_IN_MEMORY, psutil.virtual_memory().total // 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataset(Dataset):
    """A text and its origin."""

    text: str  #: the whole text, not split
    #: [documents], the first character of each document, ascending from 0; None: it is one document
    document_starts: np.ndarray | None = None
    #: exactly known quantities; "entropy_rate" in nats per character
    facts: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, name: str, text: str, source: str | Path, **others: Any) -> Self:
        """Returns the data set of a text."""
        sha256 = sources.text_sha256(text)
        return cls(name=name, text=text, source=str(source), sha256=sha256, **others)


@dataclasses.dataclass(frozen=True)
class LargeText:
    """A text that is not read into memory."""

    name: str  #: the value of `--dataset`
    files: TextFiles


@dataclasses.dataclass(frozen=True)
class PublishedText:
    """A standard text: name, hash and URL."""

    name: str
    sha256: str
    url: str


TINY_SHAKESPEARE = PublishedText(
    name="tiny_shakespeare",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    url=(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    ),
)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    download: bool = True,
    files: TextFilesConfig | None = None,
) -> TextDataset | LargeText | TokenFiles:
    """Returns a text by name, or that of a file or folder by its path.

    `tiny_shakespeare` is searched in this order: `tiny_shakespeare.txt` in `data_dir`; prepared by
    tensorflow-datasets in `data_dir`/tfds, $TFDS_DATA_DIR or ~/tensorflow_datasets; a download,
    cached in `data_dir`. If all of them fail, the fallback is `python_reference` and the result's
    `warning` names it.

    Args:
      name: one of `NAMES`, or a path: of a text file or token shard, or of a folder of either, see
        `jaxlabs.data.text_files` and `token_files`.
      data_dir: folder of the data sets; None: `default_data_dir()`.
      download: whether downloads are allowed.
      files: how a text that is given by its path is read; None: the defaults.

    Raises:
      UserError: unknown name or missing file; a file that is empty, damaged or not UTF-8; a file of
        a named data set with other content.
    """
    if name == TINY_SHAKESPEARE.name:
        return _load_published(TINY_SHAKESPEARE, sources.data_home(data_dir), download)
    if name in SYNTHETIC:
        return SYNTHETIC[name]()
    path = paths.local(name, "dataset")
    if not name or not os.path.exists(path):
        raise sources.unknown(f"no data set or file {name!r}", name, NAMES, ACCEPTED)
    return token_files.find(name, path) or _of_files(name, path, files or TextFilesConfig())


def _of_files(name: str, path: Path, config: TextFilesConfig) -> TextDataset | LargeText:
    found = text_files.find(path, config.text_key)
    if found.exceeds(config.max_in_memory):
        return LargeText(name, found)
    if found.is_one_plain_file and path.suffix not in text_files.COMPRESSED:
        return TextDataset.of(name, sources.read_text_file(path), path.resolve())
    parts, documents, length, ended = [], [], 0, True
    for text, ends in found.pieces():
        if ended:
            documents.append(length)
        parts.append(text)
        length, ended = length + len(text), ends
    if not length:
        raise UserError(f"{path}: has no text; {text_files.NEEDED}")
    starts = np.array(documents) if len(documents) > 1 else None
    return TextDataset.of(name, "".join(parts), path.resolve(), document_starts=starts)


def _load_published(published: PublishedText, data_dir: Path, download: bool) -> TextDataset:
    path = data_dir / f"{published.name}.txt"
    if os.path.exists(path):
        return _published(published, sources.read_text_file(path), path)
    if folder := sources.find_tfds(published.name, data_dir):
        # tensorflow-datasets stores three splits; concatenated they are the original.
        text = sources.read_tfds(
            folder,
            ("train", "validation", "test"),
            lambda records: b"".join(record["text"] for record in records).decode(),
        )
        return _published(published, text, folder)
    try:
        if not download:
            raise sources.DownloadError("downloads are switched off")
        sources.download(published.url, published.sha256, path)
    except sources.DownloadError as error:
        return _python_reference().in_place_of(
            f"{published.name} is neither in {data_dir} nor prepared by tensorflow-datasets, and"
            f" {error}"
        )
    return _published(published, sources.read_text_file(path), path)


def _published(published: PublishedText, text: str, source: Path) -> TextDataset:
    dataset = TextDataset.of(published.name, text, source, comparable=True)
    sources.require_sha256(source, dataset.sha256, published.sha256, published.name, "text by its")
    return dataset


def _python_reference() -> TextDataset:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[topic] for topic in sorted(topics))
    source = "the help texts of this Python, pydoc_data.topics"
    return TextDataset.of("python_reference", text, source)


def _markov() -> TextDataset:
    source = MarkovSource.random()
    origin = f"a Markov source of order 1 over {len(source.letters)} letters"
    facts = {"entropy_rate": source.entropy_rate}
    return TextDataset.of("markov", source.sample(MARKOV_CHARACTERS), origin, facts=facts)


def _toy_words() -> TextDataset:
    source = WordSource()
    origin = f"{TOY_WORDS:,} samples of {len(source.words)} short words"
    facts = {"entropy_rate": source.entropy_rate}
    return TextDataset.of("toy_words", source.sample(TOY_WORDS), origin, facts=facts)


SYNTHETIC = {"python_reference": _python_reference, "markov": _markov, "toy_words": _toy_words}
NAMES = (TINY_SHAKESPEARE.name, *SYNTHETIC)
