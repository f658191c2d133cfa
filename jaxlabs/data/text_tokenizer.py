"""The tokenizer of a text, for a text in memory and for one that is read as a stream."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import bpe, sources, tokenizers
from jaxlabs.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer

MIN_WORD_COUNT = 2
"""Rarer words of a training text are `<unk>`, so that a model learns when a word is unknown."""


class SplitText(Protocol):
    """A text whose first characters are for training."""

    def alphabet(self) -> str:
        """Returns the distinct characters of the whole text, in ascending order."""

    def length(self) -> int:
        """Returns the number of characters of the training part."""

    def lines(self) -> Iterable[str]:
        """Returns the lines of the training part."""

    def slices(self, parts: Sequence[slice]) -> Iterable[str]:
        """Returns slices of the training part; they ascend and do not overlap."""


class TextInMemory(NamedTuple):
    """A text in memory, see `SplitText`."""

    train: str
    held_out: str

    def alphabet(self) -> str:
        return "".join(sorted(set(self.train) | set(self.held_out)))

    def length(self) -> int:
        return len(self.train)

    def lines(self) -> Iterable[str]:
        return self.train.split("\n")

    def slices(self, parts: Sequence[slice]) -> Iterable[str]:
        return [self.train[part] for part in parts]


def text_tokenizer(value: str, text: SplitText, data_dir: str | Path | None = None) -> Tokenizer:
    """Returns the tokenizer of a value of `--tokenizer` for a text.

    Characters are those of the whole text, words those that occur at least `MIN_WORD_COUNT` times
    in its training part. BPE is trained on the training part and cached in `data_dir`/tokenizers.

    Raises:
      ArgumentError: another value; a text without repeated words; `tokenizers` is not installed.
      UserError: a tokenizer file that cannot be read, see `bpe.read_file`.
    """
    choice = tokenizers.parse(value)
    if choice.kind == "char":
        return CharTokenizer(text.alphabet())
    if choice.kind == "bytes":
        return ByteTokenizer()
    if choice.kind == "file":
        return bpe.read_file(paths.local(choice.path, "tokenizer"))
    if choice.kind == "bpe":
        parts = text.slices(bpe.training_parts(text.length()))
        cache = sources.data_home(data_dir) / "tokenizers"
        return bpe.trained(parts, choice.vocab_size, cache)
    try:
        return WordTokenizer.from_lines(text.lines(), MIN_WORD_COUNT)
    except UserError:
        message = f"word: no word occurs {MIN_WORD_COUNT} times in the training text"
        raise ArgumentError("tokenizer", f"{message}; char, bytes or bpe:SIZE") from None
