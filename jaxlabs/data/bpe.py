"""Byte-level BPE by Hugging Face's `tokenizers`: encoding, training, and the cache of trained ones.

The tokens of a byte-level BPE are sequences of bytes, the 256 single bytes among them, so that
every text has tokens and every token its bytes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import filelock
import numpy as np

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data.prepared_folder import atomic_write
from jaxlabs.data.tokenizer_base import (
    MAX_VOCAB_SIZE,
    Tokenizer,
    byte_label,
    decode_utf8,
    in_range,
    stored,
    well_formed,
)

if TYPE_CHECKING:
    import tokenizers

MAX_TRAINING_CHARACTERS = 50_000_000
"""Characters that BPE is trained on, in evenly spaced parts of a longer text."""

LONG_TRAINING = 5_000_000
"""Characters from which on a line says that training has begun."""

PART = 1_000_000
"""Characters of each of these parts."""

PIECE, BATCH = 8_192, 128
"""Characters of a piece of text, and pieces that are encoded at once, in parallel."""

RECIPE = "1"
"""Changes with everything that changes a trained tokenizer, so that no cached one is used."""

# The end of a word: between a letter and a newline, or a single space and another letter. Every
# usual pre-tokenizer splits here, whatever stands before and after.
WORD_END = re.compile(r"(?<=[^\W\d_])(?=\n| [^\W\d_])")

PROBE = "Don't  stop:\r\n\tnaïve 東京 e\u0301 ﬁ x² ½ 2026\0 😀👩‍🚀 \n"
"""A text that an accepted tokenizer must decode unchanged, apart from Unicode's normal form; also
with a space before it."""


@dataclasses.dataclass(frozen=True)
class BPETokenizer(Tokenizer):
    """A byte-level tokenizer of Hugging Face's `tokenizers`, trained here or by others.

    Special tokens in a text, such as `<|endoftext|>`, are encoded as such; none is added.

    Raises:
      UserError: the file is of another tokenizer, or `tokenizers` is not installed.
    """

    content: str = dataclasses.field(repr=False)  #: JSON of a `tokenizers.Tokenizer`

    kind = "bpe"
    unit = "token"

    def __post_init__(self):
        _require_byte_level(self)

    @functools.cached_property
    def backend_tokenizer(self) -> "tokenizers.Tokenizer":
        """The tokenizer of Hugging Face's `tokenizers`, without truncation and padding."""
        library = _library()
        try:
            tokenizer = library.Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises no other class
            reason = " ".join(str(error).split())[:200]
            message = f"not a tokenizer of `tokenizers` {library.__version__} ({reason})"
            raise UserError(f"tokenizer: {message}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @functools.cached_property
    def table(self) -> tuple[bytes, ...]:
        """The bytes of each token."""
        added = self.backend_tokenizer.get_added_tokens_decoder()
        vocab = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        table = [b""] * (max(vocab.values()) + 1)  # ids may have gaps
        for token, index in vocab.items():
            special = index in added or not set(token) <= _byte_of_character().keys()
            data = token.encode() if special else bytes(map(_byte_of_character().get, token))
            table[index] = data
        return tuple(table)

    @property
    def vocab_size(self) -> int:
        return len(self.table)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens `[length]` of a text, in `dtype`; a lone surrogate becomes U+FFFD."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the tokens of several texts, each encoded on its own, on all cores."""
        cut = split_pieces if self._splits_words else (lambda text: [text])
        pieces, owners = [], []
        for owner, text in enumerate(texts):
            parts = list(cut(well_formed(text)))
            pieces += parts
            owners += [owner] * len(parts)
        found = [[np.zeros(0, self.dtype)] for _ in texts]
        for start in range(0, len(pieces), BATCH):
            batch = pieces[start : start + BATCH]
            encoded = self.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for owner, one in zip(owners[start : start + BATCH], encoded, strict=True):
                found[owner].append(np.array(one.ids, self.dtype))
        return [np.concatenate(parts) for parts in found]

    def decode(self, tokens: Sequence[int]) -> str:
        table = self.table
        return decode_utf8(b"".join([table[one] for one in in_range(tokens, len(table)).tolist()]))

    def labels(self, tokens: Sequence[int]) -> list[str]:
        return [byte_label(self.table[one]) for one in in_range(tokens, self.vocab_size).tolist()]

    def token_bytes(self) -> np.ndarray:
        return np.array([len(data) for data in self.table])

    def split_point(self, text: str) -> int:
        for end in range(len(text), 0, -PIECE) if self._splits_words else ():
            ends = [
                match.start() for match in WORD_END.finditer(text, max(0, end - PIECE - 2), end)
            ]
            if ends:
                return ends[-1]
        return 0

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "tokenizer": self.content}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        return _cached(cls, stored(saved, cls.kind, "tokenizer", str))

    @functools.cached_property
    def _splits_words(self) -> bool:
        """Whether a text may be cut at the end of any word and encoded in pieces."""
        splitter = self.backend_tokenizer.pre_tokenizer
        if splitter is None or any(
            WORD_END.search(token.content)
            for token in self.backend_tokenizer.get_added_tokens_decoder().values()
        ):
            return False
        words = splitter.pre_tokenize_str("one two's three\nfour")
        return {3, 9, 15} <= {start for _, (start, _) in words}


# Every use of a run loads its tokenizer again; that of a large file takes a second.
_cached = functools.lru_cache(maxsize=4)(lambda cls, content: cls(content))


def split_pieces(text: str) -> Iterator[str]:
    """Yields consecutive pieces of a text of about `PIECE` characters, cut at ends of words."""
    start = 0
    while start < len(text):
        match = WORD_END.search(text, start + PIECE)
        end = match.start() if match else len(text)
        yield text[start:end]
        start = end


def read_file(path: Path) -> BPETokenizer:
    """Returns the tokenizer of a file of `tokenizers`, such as a tokenizer.json.

    Raises:
      UserError: the file is missing or not UTF-8, or of another tokenizer.
    """
    needed = "a file of Hugging Face's tokenizers is needed"
    data = paths.read_bytes(path, needed)
    try:
        return BPETokenizer(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; {needed}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def trained(
    text: Iterable[str], vocab_size: int, cache: Path, progress: bool = True
) -> BPETokenizer:
    """Returns a BPE of `vocab_size` tokens or fewer, trained on a text or read from the cache.

    `training_parts` bounds the text. The cache holds the file and, beside it, its sha256; several
    processes train once. A damaged file is trained again. Training is deterministic.

    Args:
      text: the training text in consecutive parts.
      vocab_size: number of tokens, the 256 bytes included; a short text has fewer.
      cache: folder of the trained tokenizers; one that cannot be written is not used.
      progress: whether a line on stderr says that a tokenizer is trained, and how long it took.

    Raises:
      UserError: `tokenizers` is not installed.
    """
    parts = list(text)
    digest = hashlib.sha256(f"{RECIPE}\n{vocab_size}\n".encode())
    for part in parts:
        digest.update(well_formed(part).encode())
    path = cache / f"bpe-{vocab_size}-{digest.hexdigest()[:16]}.json"
    with _lock(path) as writable:
        content = _read_cached(path)
        if content is None:
            start, size = time.perf_counter(), sum(map(len, parts))
            if progress and size > LONG_TRAINING:
                print(f"tokenizer: training BPE on {size:,} characters", file=sys.stderr)
            content = _train(parts, vocab_size)
            if progress:
                took = time.perf_counter() - start
                count = BPETokenizer(content).vocab_size
                tokens = f"{count:,} tokens" + ", all that repeat," * (count < vocab_size)
                kept = f"kept in {path}" if writable else f"not kept: {cache} cannot be written"
                print(
                    f"tokenizer: BPE of {tokens} trained on {size:,} characters"
                    f" in {took:.1f} s, {kept}",
                    file=sys.stderr,
                )
            if writable:
                _write(path, content)
    return BPETokenizer(content)


def training_parts(length: int) -> list[slice]:
    """Returns the parts of a training text of `length` characters that BPE is trained on.

    They are all of it up to `MAX_TRAINING_CHARACTERS`, else evenly spaced parts of `PART`.
    """
    if length <= MAX_TRAINING_CHARACTERS:
        return [slice(0, length)]
    count = MAX_TRAINING_CHARACTERS // PART
    starts = [(length - PART) * index // (count - 1) for index in range(count)]
    return [slice(start, start + PART) for start in starts]


def _train(parts: Sequence[str], vocab_size: int) -> str:
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    # Small pieces: the library reads 256 of them at once, at thirty times their size.
    pieces = (piece for part in parts for piece in split_pieces(well_formed(part)))
    tokenizer.train_from_iterator(pieces, trainer)
    return tokenizer.to_str()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Locks a file of the cache; the value is whether the cache can be written."""
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _sha256_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256_line(path: Path, content: bytes) -> str:
    """Returns the line that `sha256sum --check` reads."""
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def _read_cached(path: Path) -> str | None:
    """Returns a tokenizer of the cache; None if there is none, or a damaged one."""
    try:
        content, line = path.read_bytes(), _sha256_file(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        print(f"{path}: cannot be read ({error}); trained again", file=sys.stderr)
        return None
    if line != _sha256_line(path, content):
        print(f"{path}: damaged, its sha256 differs; trained again", file=sys.stderr)
        return None
    return content.decode()


def _write(path: Path, content: str) -> None:
    """Writes a tokenizer and its hash, each atomically; a full disk leaves no cache."""
    data = content.encode()
    files = ((path, data), (_sha256_file(path), _sha256_line(path, data).encode()))
    for target, written in files:
        try:
            with atomic_write(target) as file:
                file.write(written)
        except OSError as error:
            print(f"{target}: cannot be written ({error.strerror}); not kept", file=sys.stderr)
            return


def _require_byte_level(tokenizer: BPETokenizer) -> None:
    """Raises UserError unless a tokenizer has all bytes and decodes a text unchanged."""
    accepted = "a byte-level tokenizer that changes no text, as those of GPT-2 and Llama 3"
    characters = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).keys()
    if missing := _byte_of_character().keys() - characters:
        found = f"{len(missing)} of the 256 bytes have no token"
        raise UserError(f"tokenizer: {found}; {accepted} is accepted")
    if json.loads(tokenizer.content)["model"].get("dropout"):
        raise UserError("tokenizer: BPE with dropout is random; one without is accepted")
    if not tokenizer.vocab_size <= MAX_VOCAB_SIZE:
        found = f"{tokenizer.vocab_size:,} tokens"
        raise UserError(f"tokenizer: {found}; at most {MAX_VOCAB_SIZE:,} are accepted")
    normalizer = tokenizer.backend_tokenizer.normalizer
    for probe in (PROBE, f" {PROBE}"):
        expected = normalizer.normalize_str(probe) if normalizer else probe
        allowed = {unicodedata.normalize(form, probe) for form in ("NFC", "NFD")} | {probe}
        decoded = tokenizer.decode(tokenizer.encode(probe))
        if decoded != expected or expected not in allowed:
            found = f"{probe!r} is decoded as {decoded!r}"
            raise UserError(f"tokenizer: {found}; {accepted} is accepted")


@functools.cache
def _byte_of_character() -> Mapping[str, int]:
    """Returns the byte of each character of a byte-level vocabulary, as GPT-2 writes bytes.

    A printable byte of Latin-1 is its character; the others are the characters from U+0100 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + number): byte for number, byte in enumerate(others)}


def _library() -> Any:
    """Returns the module `tokenizers`; raises ArgumentError if it is not installed."""
    try:
        import tokenizers
    except ImportError:
        message = "BPE needs the package tokenizers: pip install 'jaxlabs[text]'"
        raise ArgumentError("tokenizer", message) from None
    return tokenizers
