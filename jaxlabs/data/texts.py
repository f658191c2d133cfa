"""Text data sets, by name or by the path of a text file."""

import dataclasses
import os
from pathlib import Path

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.data import sources
from jaxlabs.data.synthetic import MarkovSource, WordSource

MARKOV_CHARACTERS = 500_000
TOY_WORDS = 10_000


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """A text and its origin.

    Attributes:
      name: a name that `load` knows, or the path.
      text: the whole text, not split.
      source: human-readable origin.
      sha256: hash of the text's UTF-8 bytes; a resumed run must find the same.
      warning: one line for the user if a fallback replaces the requested text, else None.
      comparable: whether published results are on this exact text.
      facts: exactly known quantities; "entropy_rate" in nats per character.
    """

    name: str
    text: str
    source: str
    sha256: str
    warning: str | None = None
    comparable: bool = False
    facts: dict[str, float] = dataclasses.field(default_factory=dict)


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
NAMES = ("tiny_shakespeare", "python_reference", "markov", "toy_words")


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
        folder = sources.data_home(data_dir)
        return _load_published(TINY_SHAKESPEARE, folder, download)
    if name == "python_reference":
        return _python_reference()
    if name == "markov":
        return _markov()
    if name == "toy_words":
        return _toy_words()
    return _text_file(name)


def _load_published(published: PublishedText, data_dir: Path, download: bool) -> TextDataset:
    path = data_dir / f"{published.name}.txt"
    if os.path.exists(path):
        return _published(published, sources.read_text_file(path), source=path)
    if folder := sources.find_tfds(published.name, data_dir):
        # tensorflow-datasets stores three splits; concatenated they are the original.
        text = sources.read_tfds(
            folder,
            ("train", "validation", "test"),
            lambda records: b"".join(record["text"] for record in records).decode(),
        )
        return _published(published, text, source=folder)
    try:
        if not download:
            raise sources.DownloadError("downloads are switched off")
        sources.download(published.url, published.sha256, path)
    except sources.DownloadError as error:
        return _fallback(published, data_dir, reason=str(error))
    return _published(published, sources.read_text_file(path), source=path)


def _published(published: PublishedText, text: str, source: Path) -> TextDataset:
    sha256 = sources.text_sha256(text)
    if sha256 != published.sha256:
        raise UserError(
            f"{source}: not the published {published.name} (its sha256 is {sha256[:12]}..., "
            f"{published.sha256[:12]}... is accepted); remove it, or pass your own text by its path"
        )
    return TextDataset(published.name, text, str(source), sha256, comparable=True)


def _fallback(published: PublishedText, data_dir: Path, reason: str) -> TextDataset:
    instead = _python_reference()
    warning = (
        f"{published.name} is neither in {data_dir} nor prepared by tensorflow-datasets, "
        f"and {reason}: training on {instead.name} ({instead.source}) instead, "
        "whose metrics are not comparable with published results"
    )
    return dataclasses.replace(instead, warning=warning)


def _python_reference() -> TextDataset:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[topic] for topic in sorted(topics))
    source = "the help texts of this Python, pydoc_data.topics"
    return TextDataset("python_reference", text, source, sources.text_sha256(text))


def _markov() -> TextDataset:
    source = MarkovSource.random()
    text = source.sample(MARKOV_CHARACTERS)
    facts = {"entropy_rate": source.entropy_rate}
    origin = f"a Markov source of order 1 over {len(source.letters)} letters"
    return TextDataset("markov", text, origin, sources.text_sha256(text), facts=facts)


def _toy_words() -> TextDataset:
    source = WordSource()
    text = source.sample(TOY_WORDS)
    facts = {"entropy_rate": source.entropy_rate}
    origin = f"{TOY_WORDS:,} samples of {len(source.words)} short words"
    return TextDataset("toy_words", text, origin, sources.text_sha256(text), facts=facts)


def _text_file(name: str) -> TextDataset:
    path = paths.local(name, "dataset")
    accepted = f"{', '.join(NAMES)} or the path to a UTF-8 text file"
    if not name or not os.path.exists(path):
        hint = nearest(name, NAMES)
        raise ArgumentError(
            "dataset", f"no data set or file {name!r}; accepted are {accepted}{hint}"
        )
    if path.is_dir():
        raise ArgumentError("dataset", f"{name!r} is a folder; accepted are {accepted}")
    text = sources.read_text_file(path)
    return TextDataset(name, text, str(path.resolve()), sources.text_sha256(text))
