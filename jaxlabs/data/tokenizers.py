"""Text to token numbers and back."""

import dataclasses
from typing import Any

import numpy as np

from jaxlabs.config import UserError


@dataclasses.dataclass(frozen=True)
class CharTokenizer:
    """One token per character (Unicode code point), numbered in code-point order.

    Attributes:
      alphabet: the distinct characters, in ascending order; a character's place is its token.
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


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
