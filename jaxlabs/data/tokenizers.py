"""Tokenizers: text to token ids and back."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data.vocab import PADDING, Vocab

UNKNOWN = 1
SPECIAL_TOKENS = ("<pad>", "<unk>")
"""Special tokens of a `WordTokenizer`."""


@dataclasses.dataclass(frozen=True)
class CharTokenizer:
    """One token per character (Unicode code point), numbered in code-point order.

    Example:
      >>> from jaxlabs.data.tokenizers import CharTokenizer
      >>> CharTokenizer.from_text("hello").encode("hole").tolist()
      [1, 3, 2, 0]
    """

    #: the distinct characters, in ascending order; the index of a character is its token
    alphabet: str

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

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, in `vocab.dtype`.

        Raises:
          UserError: characters outside the alphabet; it names them.
        """
        ids = self.vocab.ids
        if unknown := sorted(set(text) - ids.keys()):
            raise UserError(self._unknown_message(unknown))
        return np.fromiter((ids[character] for character in text), self.vocab.dtype, len(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens `[length]`.

        Raises:
          ValueError: a token is not one of 0..size-1.
        """
        return "".join(self.vocab.labels(tokens))

    def to_json(self) -> dict[str, str]:
        """Returns the tokenizer as JSON, the input of `from_json`."""
        return {"kind": "characters", "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the tokenizer from its JSON; raises UserError if it is of another kind."""
        return cls(_stored(saved, "characters", "alphabet", str))

    def _unknown_message(self, unknown: list[str]) -> str:
        named = ", ".join(map(repr, unknown[:10]))
        rest = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        known = self.alphabet if len(self.alphabet) <= 100 else self.alphabet[:100] + "..."
        return (
            f"unknown characters {named}{rest}; "
            f"the {len(self.alphabet)} characters of the training text are {known!r}"
        )


@dataclasses.dataclass(frozen=True)
class WordTokenizer:
    """One token per word or punctuation character, in the Penn Treebank convention.

    `<pad>` is token 0, `<unk>` (any unknown word) token 1, followed by `words`. Text is split by
    NLTK's `NLTKWordTokenizer`, which treats every line as one sentence and needs no corpus.
    """

    words: tuple[str, ...]  #: the known words, distinct and in ascending order

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

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, line by line, in `vocab.dtype`."""
        ids = self.vocab.ids
        return np.array([ids.get(word, UNKNOWN) for word in split_words(text)], self.vocab.dtype)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the detokenized text of tokens `[length]`, without padding.

        Raises:
          ValueError: a token is not one of 0..size-1.
        """
        from nltk.tokenize.treebank import TreebankWordDetokenizer

        words = [word for word in self.vocab.labels(tokens) if word != SPECIAL_TOKENS[PADDING]]
        return TreebankWordDetokenizer().detokenize(words)

    def to_json(self) -> dict[str, Any]:
        """Returns the tokenizer as JSON, the input of `from_json`."""
        return {"kind": "words", "words": list(self.words)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the tokenizer from its JSON; raises UserError if it is of another kind."""
        return cls(tuple(_stored(saved, "words", "words", list)))


def split_words(text: str) -> list[str]:
    """Returns the words and punctuation of a text with one sentence per line."""
    return [word for line in text.split("\n") for word in _split_line(line)]


def _require_sorted(entries: Sequence[str], rule: str) -> None:
    if not entries or list(entries) != sorted(set(entries)):
        raise UserError(f"tokenizer: the {rule}, in ascending order")


def _stored(saved: Mapping[str, Any], kind: str, key: str, content: type) -> Any:
    """Returns an entry of a tokenizer's JSON; raises UserError if it is of another kind."""
    if saved.get("kind") != kind or not isinstance(saved.get(key), content):
        raise UserError(f"tokenizer: kind {saved.get('kind')!r} found, {kind!r} is accepted")
    return saved[key]


# Cached, since the same sentences build the vocabulary and are then encoded.
@functools.lru_cache(maxsize=2**14)
def _split_line(line: str) -> tuple[str, ...]:
    return tuple(_treebank().tokenize(line))


@functools.cache
def _treebank() -> Any:
    # A local import: it takes two seconds, and most labs do not need it.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
