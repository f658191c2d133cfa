"""Text to token numbers and back."""

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
      alphabet: the distinct characters, in ascending order; a character's place is its token.

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
    def vocabulary_size(self) -> int:
        """Number of distinct tokens."""
        return len(self.alphabet)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens [length] of a text, in the narrowest of uint8, uint16 and int32.

        Raises:
          UserError: the text holds characters that are not in the alphabet; it names them.
        """
        known, points = _code_points(self.alphabet), _code_points(text)
        tokens = np.minimum(np.searchsorted(known, points), self.vocabulary_size - 1)
        unknown = known[tokens] != points
        if unknown.any():
            raise UserError(self._complaint(np.unique(points[unknown])))
        return tokens.astype(self._dtype)

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens [length].

        Raises:
          ValueError: a token is not one of 0..vocabulary_size-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.vocabulary_size)]
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is not one of 0..{self.vocabulary_size - 1}")
        points = _code_points(self.alphabet)[tokens]
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> dict[str, str]:
        """Returns what `from_json` needs."""
        return {"kind": "characters", "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, saved: dict[str, str]) -> "CharTokenizer":
        """Returns the tokenizer that `to_json` described.

        Raises:
          UserError: the description is of another kind of tokenizer, or of none.
        """
        if saved.get("kind") != "characters" or not isinstance(saved.get("alphabet"), str):
            raise UserError(
                f"tokenizer: kind {saved.get('kind')!r} found, 'characters' is accepted"
            )
        return cls(saved["alphabet"])

    @property
    def _dtype(self) -> type[np.integer]:
        if self.vocabulary_size <= 2**8:
            return np.uint8
        return np.uint16 if self.vocabulary_size <= 2**16 else np.int32

    def _complaint(self, points: np.ndarray) -> str:
        named = ", ".join(repr(chr(point)) for point in points[:10])
        rest = f" and {points.size - 10} more" if points.size > 10 else ""
        known = self.alphabet if self.vocabulary_size <= 100 else self.alphabet[:100] + "..."
        return (
            f"unknown characters {named}{rest}; "
            f"the {self.vocabulary_size} characters of the training text are {known!r}"
        )


PADDING, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")


@dataclasses.dataclass(frozen=True)
class WordTokenizer:
    """One token per word or punctuation mark, as the Penn Treebank cuts English.

    `<pad>` is token 0, `<unk>` (any word that is not known) token 1, then come the words in the
    order of `words`. Words are NLTK's `NLTKWordTokenizer`'s, for which every line is one sentence;
    it reads no corpus.

    Attributes:
      words: the known words, distinct and in ascending order.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if not self.words or list(self.words) != sorted(set(self.words)):
            raise UserError("tokenizer: the words must be distinct, in ascending order")

    @classmethod
    def from_lines(cls, lines: Iterable[str], least: int = 1) -> "WordTokenizer":
        """Returns the tokenizer of all words that occur at least `least` times in some lines.

        Raises:
          UserError: no word occurs so often.
        """
        counts = collections.Counter(word for line in lines for word in split_words(line))
        if counts and least > max(counts.values()):
            raise UserError(
                f"--min_count: {least:,} is not accepted; at most {max(counts.values()):,}, which"
                " is how often the most frequent word occurs"
            )
        return cls(tuple(sorted(word for word, count in counts.items() if count >= least)))

    @property
    def vocabulary_size(self) -> int:
        """Number of distinct tokens, `<pad>` and `<unk>` included."""
        return len(SPECIAL) + len(self.words)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens [length] of a text, line by line, in uint16 or int32."""
        numbers = self._numbers
        tokens = [numbers.get(word, UNKNOWN) for word in split_words(text)]
        return np.array(tokens, np.uint16 if self.vocabulary_size <= 2**16 else np.int32)

    def labels(self, tokens: Any) -> list[str]:
        """Returns the word of each of some tokens [length].

        Raises:
          ValueError: a token is not one of 0..vocabulary_size-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.vocabulary_size)]
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is not one of 0..{self.vocabulary_size - 1}")
        names = SPECIAL + self.words
        return [names[token] for token in tokens]

    def decode(self, tokens: Any) -> str:
        """Returns tokens [length] as running text, spaced as English is; padding is left out.

        Raises:
          ValueError: as `labels`.
        """
        from nltk.tokenize.treebank import TreebankWordDetokenizer

        words = [word for word in self.labels(tokens) if word != SPECIAL[PADDING]]
        return TreebankWordDetokenizer().detokenize(words)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` needs."""
        return {"kind": "words", "words": list(self.words)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "WordTokenizer":
        """Returns the tokenizer that `to_json` described.

        Raises:
          UserError: the description is of another kind of tokenizer, or of none.
        """
        if saved.get("kind") != "words" or not isinstance(saved.get("words"), list):
            raise UserError(f"tokenizer: kind {saved.get('kind')!r} found, 'words' is accepted")
        return cls(tuple(saved["words"]))

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=len(SPECIAL))}


def split_words(text: str) -> list[str]:
    """Returns the words and punctuation marks of a text whose every line is a sentence."""
    return [word for line in text.split("\n") for word in _split_line(line)]


# Remembered, because the same sentences make the vocabulary and are then encoded.
@functools.lru_cache(maxsize=2**14)
def _split_line(line: str) -> tuple[str, ...]:
    return tuple(_treebank().tokenize(line))


@functools.cache
def _treebank() -> Any:
    # Imported here: it takes two seconds, which most labs need not wait for.
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
