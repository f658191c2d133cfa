"""The vocabulary of a tokenizer."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from jaxlabs.config import UserError
from jaxlabs.data.tokenizer_base import in_range

PADDING, START, END = 0, 1, 2
"""Ids of the special tokens, in every vocabulary that has them."""

STOPS = ("<pad>", "<eos>")
"""Special tokens that end a decoded sequence."""


@dataclasses.dataclass(frozen=True)
class Vocab:
    """Tokens by id: the special tokens, followed by the words.

    Example:
      >>> from jaxlabs.data.vocab import Vocab
      >>> Vocab(("moon", "the"), special=("<pad>",)).encode(["the", "moon"])
      [2, 1]
    """

    words: tuple[str, ...]  #: distinct words, or distinct characters
    #: special tokens, such as `<pad>`; none of them results from encoding a word
    special: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of distinct tokens, special ones included."""
        return len(self.special) + len(self.words)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Token of each id."""
        return self.special + self.words

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Id of each word."""
        return {word: index for index, word in enumerate(self.words, start=len(self.special))}

    def encode(self, words: Iterable[str]) -> list[int]:
        """Returns the ids of words.

        Raises:
          UserError: unknown words; it names them.
        """
        words = list(words)
        unknown = dict.fromkeys(word for word in words if word not in self.ids)
        if unknown:
            some = ", ".join(self.words[:60]) + ", ..." * (len(self.words) > 60)
            raise UserError(
                f"unknown words {', '.join(map(repr, unknown))}; the vocabulary is {some}"
            )
        return [self.ids[word] for word in words]

    def labels(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of every id, special ones included.

        Raises:
          ValueError: an id is not one of 0..size-1.
        """
        return [self.names[token] for token in in_range(ids, self.size).tolist()]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the tokens of ids up to the first one that ends a sequence, see `STOPS`."""
        ids = np.asarray(ids, np.int64)
        stops = [self.special.index(name) for name in STOPS if name in self.special]
        ends = np.flatnonzero(np.isin(ids, stops))
        return self.labels(ids[: ends[0]] if ends.size else ids)


def pad(rows: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    """Returns rows of ids as `[count, length]` int32, truncated or padded.

    Args:
      rows: the ids of each row.
      length: the length of all rows; None: that of the longest.
    """
    length = max(map(len, rows)) if length is None else length
    padded = np.full((len(rows), length), PADDING, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids[:length]
    return padded
