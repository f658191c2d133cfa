"""Text data sets, by name or by the path of a text file."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Self

from jaxlabs import paths
from jaxlabs.data import sources
from jaxlabs.data.dataset import Dataset
from jaxlabs.data.synthetic import MarkovSource, WordSource

MARKOV_CHARACTERS = 500_000
TOY_WORDS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataset(Dataset):
    """A text and its origin."""

    text: str  #: the whole text, not split
    #: exactly known quantities; "entropy_rate" in nats per character
    facts: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, name: str, text: str, source: str | Path, **others: Any) -> Self:
        """Returns the data set of a text."""
        sha256 = sources.text_sha256(text)
        return cls(name=name, text=text, source=str(source), sha256=sha256, **others)


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


def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> TextDataset:
    """Returns a text by name, or the text of a file by its path.

    `tiny_shakespeare` is searched in this order: `tiny_shakespeare.txt` in `data_dir`; prepared by
    tensorflow-datasets in `data_dir`/tfds, $TFDS_DATA_DIR or ~/tensorflow_datasets; a download,
    cached in `data_dir`. If all of them fail, the fallback is `python_reference` and the result's
    `warning` names it.

    Args:
      name: one of `NAMES`, or the path to a UTF-8 text file.
      data_dir: folder of the data sets; None: `default_data_dir()`.
      download: whether downloads are allowed.

    Raises:
      UserError: unknown name or missing file; a file that is empty or not UTF-8; a file of a named
        data set with other content.
    """
    if name == TINY_SHAKESPEARE.name:
        return _load_published(TINY_SHAKESPEARE, sources.data_home(data_dir), download)
    if name in SYNTHETIC:
        return SYNTHETIC[name]()
    path = paths.local(name, "dataset")
    if not name or not os.path.exists(path):
        raise sources.unknown(f"no data set or file {name!r}", name, NAMES, "a UTF-8 text file")
    if path.is_dir():
        raise sources.unknown(f"{name!r} is a folder", "", NAMES, "a UTF-8 text file")
    return TextDataset.of(name, sources.read_text_file(path), path.resolve())


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
