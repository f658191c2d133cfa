"""The protocol of tokenizers, and what several of them share."""

import abc
import codecs
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from jaxlabs.config import UserError

MAX_VOCAB_SIZE = 2**18
"""Largest vocabulary of BPE; those of published models are below it."""

SHA256 = "tokenizer_sha256"
"""Key of `DataModule.dataset` that identifies a tokenizer."""


class Tokenizer(abc.ABC):
    """Text to tokens, the integers 0..vocab_size-1, and back."""

    #: name of the kind, in the JSON
    kind: ClassVar[str]
    #: what a token is, for people: "character", "word", "byte" or "token"
    unit: ClassVar[str]

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of distinct tokens, special ones included."""

    @property
    def dtype(self) -> np.dtype:
        """The narrowest unsigned integers that hold all tokens."""
        return np.min_scalar_type(self.vocab_size - 1)

    @abc.abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, in `dtype`."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the tokens of several texts, each encoded on its own."""
        return [self.encode(text) for text in texts]

    @abc.abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens `[length]`; never half a character.

        Raises:
          ValueError: a token is not one of 0..vocab_size-1.
        """

    @abc.abstractmethod
    def labels(self, tokens: Sequence[int]) -> list[str]:
        """Returns a readable name of each token, one that is part of a character included."""

    def pieces(self, text: str) -> list[str]:
        """Returns a readable name of each token of a text; an unknown word is its own."""
        return self.labels(self.encode(text))

    @abc.abstractmethod
    def token_bytes(self) -> np.ndarray | None:
        """Returns the number of UTF-8 bytes of each token `[vocab_size]`, int64.

        None if the tokens do not determine the text, as unknown words: no loss in bits per byte.
        """

    @abc.abstractmethod
    def split_point(self, text: str) -> int:
        """Returns the last index at which a text may be split before it is encoded.

        `encode(text + rest)` is `encode(text[:index])` followed by `encode(text[index:] + rest)`,
        whatever follows. 0 if there is none.
        """

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Returns the tokenizer as JSON, the input of `from_json` and `load`."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the tokenizer from its JSON; raises UserError if it is of another kind."""

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the JSON of the tokenizer, in hexadecimal."""
        content = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()


def well_formed(text: str) -> str:
    """Returns a text with U+FFFD for each lone surrogate, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text)
    return text


def decode_utf8(data: bytes) -> str:
    """Returns the text of bytes that a model made.

    Bytes that are no character become U+FFFD; an incomplete character at the end is left out.
    """
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def byte_label(data: bytes) -> str:
    """Returns the bytes of one token as text.

    Control characters are escaped, newline and tab excepted, as are bytes that are no character.
    """
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text
    )


def require_kind(saved: Mapping[str, Any], kind: str) -> None:
    """Raises UserError if the JSON of a tokenizer is of another kind."""
    if saved.get("kind") != kind:
        raise UserError(f"tokenizer: kind {saved.get('kind')!r} found, {kind!r} is accepted")


def in_range(tokens: Sequence[int], size: int) -> np.ndarray:
    """Returns tokens as int64; raises ValueError if one is not one of 0..size-1."""
    tokens = np.asarray(tokens, np.int64)
    wrong = tokens[(tokens < 0) | (tokens >= size)]
    if wrong.size:
        raise ValueError(f"token {wrong[0]} is not one of 0..{size - 1}")
    return tokens


def stored(saved: Mapping[str, Any], kind: str, key: str, content: type) -> Any:
    """Returns an entry of a tokenizer's JSON; raises UserError if it, or the kind, is another."""
    require_kind(saved, kind)
    if not isinstance(saved.get(key), content):
        raise UserError(f"tokenizer: {key!r} is missing or damaged; a {content.__name__} is needed")
    return saved[key]
