"""Tokenizers: text to token ids and back.

Byte-level BPE is in `jaxlabs.data.bpe`.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from jaxlabs.config import ArgumentError, UserError, nearest
from jaxlabs.data.bpe import BPETokenizer
from jaxlabs.data.tokenizer_base import (
    MAX_VOCAB_SIZE,
    Tokenizer,
    byte_label,
    decode_utf8,
    in_range,
    require_kind,
    stored,
    well_formed,
)
from jaxlabs.data.vocab import PADDING, Vocab

PART = 2**20
"""Characters that are encoded at once, to bound memory."""

UNKNOWN = 1
SPECIAL_TOKENS = ("<pad>", "<unk>")
"""Special tokens of a `WordTokenizer`."""

MIN_BPE_SIZE = 257
"""Smallest vocabulary of BPE: the 256 bytes and one merge."""

NAMES = ("char", "word", "bytes", "bpe:*")
"""The values of `--tokenizer` that are not paths; * is a number."""

HELP = (
    "the path of a tokenizer file (.json) of Hugging Face's tokenizers; bpe:4096 is a byte-level"
    " BPE of 4,096 tokens, trained on the training part of the text"
)
"""The rest of the help of `--tokenizer`."""

ACCEPTED = "char, word, bytes, bpe:SIZE such as bpe:4096, or a tokenizer file that ends in .json"
"""The values of `--tokenizer`, in words."""


class Choice(NamedTuple):
    """A checked value of `--tokenizer`."""

    kind: str  #: "char", "word", "bytes", "bpe" or "file"
    vocab_size: int | None = None  #: vocabulary size of "bpe"
    path: str | None = None  #: the tokenizer file of "file"


def parse(value: str) -> Choice:
    """Returns a value of `--tokenizer`, such as `bpe:4096`, as its parts.

    Raises:
      ArgumentError: any other value.
    """
    if value in ("char", "word", "bytes"):
        return Choice(value)
    kind, colon, size = value.partition(":")
    if kind == "bpe" and colon and re.fullmatch("[0-9]{1,9}", size):
        if MIN_BPE_SIZE <= int(size) <= MAX_VOCAB_SIZE:
            return Choice("bpe", vocab_size=int(size))
        accepted = f"bpe with a vocabulary of {MIN_BPE_SIZE} to {MAX_VOCAB_SIZE:,} tokens"
        raise ArgumentError("tokenizer", f"{value!r} is not accepted; {accepted}")
    if value.endswith(".json"):
        return Choice("file", path=value)
    hint = nearest(value, ("char", "word", "bytes", "bpe:4096"))
    raise ArgumentError("tokenizer", f"{value!r} is not accepted; {ACCEPTED}{hint}")


def load(saved: Mapping[str, Any]) -> Tokenizer:
    """Returns the tokenizer of a JSON of `Tokenizer.to_json`, whatever its kind.

    Raises:
      UserError: the JSON is of no tokenizer.
    """
    for tokenizer in (CharTokenizer, WordTokenizer, ByteTokenizer, BPETokenizer):
        if saved.get("kind") == tokenizer.kind:
            return tokenizer.from_json(saved)
    accepted = "characters, words, bytes or bpe"
    raise UserError(f"tokenizer: kind {saved.get('kind')!r} found; {accepted} is accepted")


@dataclasses.dataclass(frozen=True)
class CharTokenizer(Tokenizer):
    """One token per character (Unicode code point), numbered in code-point order.

    Example:
      >>> from jaxlabs.data.tokenizers import CharTokenizer
      >>> CharTokenizer.from_text("hello").encode("hole").tolist()
      [1, 3, 2, 0]
    """

    #: the distinct characters, in ascending order; the index of a character is its token
    alphabet: str

    kind = "characters"
    unit = "character"

    def __post_init__(self):
        _require_sorted(self.alphabet, "alphabet must be distinct characters")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Returns the tokenizer of all characters in a text."""
        return cls("".join(sorted(set(text))))

    @functools.cached_property
    def vocab(self) -> Vocab:
        """The vocabulary, without special tokens."""
        return Vocab(tuple(self.alphabet))

    @property
    def vocab_size(self) -> int:
        return self.vocab.size

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, in `dtype`.

        Raises:
          UserError: characters outside the alphabet; it names them.
        """
        tokens = np.empty(len(text), self.dtype)
        for start in range(0, len(text), PART):
            points = _code_points(text[start : start + PART])
            known = points < len(self._ids)
            found = self._ids[np.where(known, points, 0)]
            known &= found >= 0
            if not known.all():
                unknown = set(text) - set(self.alphabet)
                raise UserError(self._unknown_message(sorted(unknown)))
            tokens[start : start + PART] = found
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        tokens = in_range(tokens, self.vocab_size)
        points = _code_points(self.alphabet)[tokens]
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def labels(self, tokens: Sequence[int]) -> list[str]:
        return self.vocab.labels(tokens)

    def token_bytes(self) -> np.ndarray:
        return np.array([len(one.encode("utf-8", "surrogatepass")) for one in self.alphabet])

    def split_point(self, text: str) -> int:
        return len(text)

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        return cls(stored(saved, cls.kind, "alphabet", str))

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        """The token of each code point up to the last of the alphabet, int32; -1: none."""
        points = _code_points(self.alphabet)
        ids = np.full(int(points[-1]) + 1, -1, np.int32)
        ids[points] = np.arange(len(points))
        return ids

    def _unknown_message(self, unknown: list[str]) -> str:
        named = ", ".join(map(repr, unknown[:10]))
        rest = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        known = self.alphabet if len(self.alphabet) <= 100 else self.alphabet[:100] + "..."
        return (
            f"unknown characters {named}{rest}; "
            f"the {len(self.alphabet)} characters of the training text are {known!r}"
        )


@dataclasses.dataclass(frozen=True)
class WordTokenizer(Tokenizer):
    """One token per word or punctuation character, in the Penn Treebank convention.

    `<pad>` is token 0, `<unk>` (any unknown word) token 1, followed by `words`. Text is split by
    NLTK's `NLTKWordTokenizer`, which treats every line as one sentence and needs no corpus.
    """

    words: tuple[str, ...]  #: the known words, distinct and in ascending order

    kind = "words"
    unit = "word"

    def __post_init__(self):
        _require_sorted(self.words, "words must be distinct")

    @classmethod
    def from_lines(cls, lines: Iterable[str], min_count: int = 1) -> Self:
        """Returns the tokenizer of all words that occur at least `min_count` times in some lines.

        Raises:
          ArgumentError: no word occurs `min_count` times.
        """
        counts = collections.Counter(word for line in lines for word in split_words(line))
        if counts and min_count > max(counts.values()):
            accepted = f"at most {max(counts.values()):,}, the count of the most frequent word"
            raise ArgumentError("min_count", f"{min_count:,} is not accepted; {accepted}")
        return cls(tuple(sorted(word for word, count in counts.items() if count >= min_count)))

    @functools.cached_property
    def vocab(self) -> Vocab:
        """The vocabulary, with `<pad>` and `<unk>`."""
        return Vocab(self.words, SPECIAL_TOKENS)

    @property
    def vocab_size(self) -> int:
        return self.vocab.size

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, line by line, in `dtype`."""
        ids = self.vocab.ids
        return np.array([ids.get(word, UNKNOWN) for word in split_words(text)], self.dtype)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the detokenized text of tokens `[length]`, without padding.

        Raises:
          ValueError: a token is not one of 0..vocab_size-1.
        """
        from nltk.tokenize.treebank import TreebankWordDetokenizer

        words = [word for word in self.vocab.labels(tokens) if word != SPECIAL_TOKENS[PADDING]]
        return TreebankWordDetokenizer().detokenize(words)

    def labels(self, tokens: Sequence[int]) -> list[str]:
        return self.vocab.labels(tokens)

    def pieces(self, text: str) -> list[str]:
        return split_words(text)

    def token_bytes(self) -> None:
        return None

    def split_point(self, text: str) -> int:
        return text.rfind("\n") + 1

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": list(self.words)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        return cls(tuple(stored(saved, cls.kind, "words", list)))


@dataclasses.dataclass(frozen=True)
class ByteTokenizer(Tokenizer):
    """One token per byte of the UTF-8 text; the token is the byte.

    Example:
      >>> from jaxlabs.data.tokenizers import ByteTokenizer
      >>> ByteTokenizer().encode("é!").tolist()
      [195, 169, 33]
    """

    kind = "bytes"
    unit = "byte"

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> np.ndarray:
        """Returns the bytes `[length]` of a text; a lone surrogate becomes U+FFFD."""
        return np.frombuffer(well_formed(text).encode(), np.uint8)

    def decode(self, tokens: Sequence[int]) -> str:
        return decode_utf8(in_range(tokens, 256).astype(np.uint8).tobytes())

    def labels(self, tokens: Sequence[int]) -> list[str]:
        return [byte_label(bytes([token])) for token in in_range(tokens, 256).tolist()]

    def token_bytes(self) -> np.ndarray:
        return np.ones(256, np.int64)

    def split_point(self, text: str) -> int:
        return len(text)

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        require_kind(saved, cls.kind)
        return cls()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def split_words(text: str) -> list[str]:
    """Returns the words and punctuation of a text with one sentence per line."""
    return [word for line in text.split("\n") for word in _split_line(line)]


def _require_sorted(entries: Sequence[str], rule: str) -> None:
    if not entries or list(entries) != sorted(set(entries)):
        raise UserError(f"tokenizer: the {rule}, in ascending order")


# Cached, since the same sentences build the vocabulary and are then encoded.
@functools.lru_cache(maxsize=2**14)
def _split_line(line: str) -> tuple[str, ...]:
    return tuple(_treebank().tokenize(line))


@functools.cache
def _treebank() -> Any:
    # A local import: it takes two seconds, and most labs do not need it.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
