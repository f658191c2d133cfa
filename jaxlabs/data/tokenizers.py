"""Tokenizers: text to token ids and back."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxlabs.config import UserError


@dataclasses.dataclass(frozen=True)
class CharTokenizer:
    """One token per character (Unicode code point), numbered in code-point order.

    Attributes:
      alphabet: the distinct characters, in ascending order; the index of a character is its token.

    Example:
      >>> from jaxlabs.data.tokenizers import CharTokenizer
      >>> CharTokenizer.from_text("hello").encode("hole").tolist()
      [1, 3, 2, 0]
    """

    alphabet: str

    def __post_init__(self):
        if not self.alphabet or list(self.alphabet) != sorted(set(self.alphabet)):
            raise UserError(
                "tokenizer: the alphabet must be distinct characters, in ascending order"
            )

    @classmethod
    def from_text(cls, text: str) -> "CharTokenizer":
        """Returns the tokenizer of all characters in a text."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens."""
        return len(self.alphabet)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, in the narrowest of uint8, uint16 and int32.

        Raises:
          UserError: characters outside the alphabet; it names them.
        """
        known, points = _code_points(self.alphabet), _code_points(text)
        tokens = np.minimum(np.searchsorted(known, points), self.vocab_size - 1)
        unknown = known[tokens] != points
        if unknown.any():
            raise UserError(self._unknown_message(np.unique(points[unknown])))
        return tokens.astype(self._dtype)

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens `[length]`.

        Raises:
          ValueError: a token is not one of 0..vocab_size-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.vocab_size)]
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is not one of 0..{self.vocab_size - 1}")
        points = _code_points(self.alphabet)[tokens]
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> dict[str, str]:
        """Returns the tokenizer as JSON, the input of `from_json`."""
        return {"kind": "characters", "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, saved: dict[str, str]) -> "CharTokenizer":
        """Returns the tokenizer from its JSON.

        Raises:
          UserError: the JSON is of another kind of tokenizer, or of none.
        """
        if saved.get("kind") != "characters" or not isinstance(saved.get("alphabet"), str):
            raise UserError(
                f"tokenizer: kind {saved.get('kind')!r} found, 'characters' is accepted"
            )
        return cls(saved["alphabet"])

    @property
    def _dtype(self) -> type[np.integer]:
        if self.vocab_size <= 2**8:
            return np.uint8
        return np.uint16 if self.vocab_size <= 2**16 else np.int32

    def _unknown_message(self, points: np.ndarray) -> str:
        named = ", ".join(repr(chr(point)) for point in points[:10])
        rest = f" and {points.size - 10} more" if points.size > 10 else ""
        known = self.alphabet if self.vocab_size <= 100 else self.alphabet[:100] + "..."
        return (
            f"unknown characters {named}{rest}; "
            f"the {self.vocab_size} characters of the training text are {known!r}"
        )


PADDING, UNKNOWN = 0, 1
SPECIAL_TOKENS = ("<pad>", "<unk>")


@dataclasses.dataclass(frozen=True)
class WordTokenizer:
    """One token per word or punctuation character, in the Penn Treebank convention.

    `<pad>` is token 0, `<unk>` (any unknown word) token 1, followed by `words`. Text is split by
    NLTK's `NLTKWordTokenizer`, which treats every line as one sentence and needs no corpus.

    Attributes:
      words: the vocabulary, distinct and in ascending order.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if not self.words or list(self.words) != sorted(set(self.words)):
            raise UserError("tokenizer: the words must be distinct, in ascending order")

    @classmethod
    def from_lines(cls, lines: Iterable[str], min_count: int = 1) -> "WordTokenizer":
        """Returns the tokenizer of all words that occur at least `min_count` times in some lines.

        Raises:
          UserError: no word occurs `min_count` times.
        """
        counts = collections.Counter(word for line in lines for word in split_words(line))
        if counts and min_count > max(counts.values()):
            raise UserError(
                f"--min_count: {min_count:,} is not accepted; at most {max(counts.values()):,}, the"
                " count of the most frequent word"
            )
        return cls(tuple(sorted(word for word, count in counts.items() if count >= min_count)))

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens, `<pad>` and `<unk>` included."""
        return len(SPECIAL_TOKENS) + len(self.words)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, line by line, in uint16 or int32."""
        ids = self._ids
        tokens = [ids.get(word, UNKNOWN) for word in split_words(text)]
        return np.array(tokens, np.uint16 if self.vocab_size <= 2**16 else np.int32)

    def labels(self, tokens: Any) -> list[str]:
        """Returns the words of tokens `[length]`.

        Raises:
          ValueError: a token is not one of 0..vocab_size-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.vocab_size)]
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is not one of 0..{self.vocab_size - 1}")
        names = SPECIAL_TOKENS + self.words
        return [names[token] for token in tokens]

    def decode(self, tokens: Any) -> str:
        """Returns the detokenized text of tokens `[length]`, without padding.

        Raises:
          ValueError: as `labels`.
        """
        from nltk.tokenize.treebank import TreebankWordDetokenizer

        words = [word for word in self.labels(tokens) if word != SPECIAL_TOKENS[PADDING]]
        return TreebankWordDetokenizer().detokenize(words)

    def to_json(self) -> dict[str, Any]:
        """Returns the tokenizer as JSON, the input of `from_json`."""
        return {"kind": "words", "words": list(self.words)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "WordTokenizer":
        """Returns the tokenizer from its JSON.

        Raises:
          UserError: the JSON is of another kind of tokenizer, or of none.
        """
        if saved.get("kind") != "words" or not isinstance(saved.get("words"), list):
            raise UserError(f"tokenizer: kind {saved.get('kind')!r} found, 'words' is accepted")
        return cls(tuple(saved["words"]))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words, start=len(SPECIAL_TOKENS))}


def split_words(text: str) -> list[str]:
    """Returns the words and punctuation of a text with one sentence per line."""
    return [word for line in text.split("\n") for word in _split_line(line)]


# Cached, since the same sentences build the vocabulary and are then encoded.
@functools.lru_cache(maxsize=2**14)
def _split_line(line: str) -> tuple[str, ...]:
    return tuple(_treebank().tokenize(line))


@functools.cache
def _treebank() -> Any:
    # A local import: it takes two seconds, and most labs do not need it.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
