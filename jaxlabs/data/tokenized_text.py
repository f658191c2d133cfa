"""A text as tokens, in memory or in memory-mapped shards: split, tokenized, described."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxlabs.data import documents, prepare, token_files, windows
from jaxlabs.data.batches import ContiguousStreams, TokenStream, require_window
from jaxlabs.data.host_streams import HostContiguousStreams, HostTokenStream
from jaxlabs.data.shards import ShardedTokens, concatenate
from jaxlabs.data.text_blocks import HELD_OUT, TRAIN
from jaxlabs.data.text_tokenizer import TextInMemory, text_tokenizer
from jaxlabs.data.texts import LargeText, TextDataset
from jaxlabs.data.token_files import TokenFiles
from jaxlabs.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Part:
    """The training or the held-out part of a text.

    Attributes:
      tokens: `[length]`, an array or shards.
      read_documents: returns `documents`.
    """

    tokens: windows.Tokens
    read_documents: Callable[[], np.ndarray]

    @functools.cached_property
    def documents(self) -> np.ndarray:
        """First token of each document, `[documents]`, ascending; read where they are needed."""
        return self.read_documents()


@dataclasses.dataclass(frozen=True)
class TokenizedText:
    """A text as tokens.

    Attributes:
      tokenizer: its tokenizer.
      train: the first 90 %, of characters whatever the tokenizer.
      held_out: the rest.
      description: `name`, `source`, `sha256` and other metadata, the same in memory and in shards.
      facts: known losses in nats per character, by name.
      comparable: whether published results are on this text.
      warning: see `Dataset`.
    """

    tokenizer: Tokenizer
    train: Part
    held_out: Part
    description: dict[str, Any]
    facts: dict[str, float] = dataclasses.field(default_factory=dict)
    comparable: bool = False
    warning: str | None = None

    @property
    def both(self) -> windows.Tokens:
        """All tokens, `[length]`."""
        parts = self.train.tokens, self.held_out.tokens
        return concatenate(parts) if isinstance(parts[0], ShardedTokens) else np.concatenate(parts)


def tokenize(
    dataset: TextDataset | LargeText | TokenFiles,
    tokenizer: str,
    data_dir: str | Path | None = None,
) -> TokenizedText:
    """Returns a text as tokens; a large one is encoded into shards, unless an earlier run has.

    Args:
      dataset: the text, from `texts.load`.
      tokenizer: the value of `--tokenizer`.
      data_dir: folder of the data sets; None: `sources.default_data_dir()`.

    Raises:
      UserError: see `prepare.prepare`, `token_files.open_tokens` and `text_tokenizer`.
    """
    if isinstance(dataset, LargeText):
        return _in_shards(dataset, tokenizer, data_dir)
    if isinstance(dataset, TokenFiles):
        return _of_token_files(dataset, tokenizer, data_dir)
    parts = windows.split_text(dataset.text)
    encoder = text_tokenizer(tokenizer, TextInMemory(*parts), data_dir)
    starts = np.zeros(1, int) if dataset.document_starts is None else dataset.document_starts
    border = len(parts[0])
    train, held_out = starts[starts < border], starts[starts >= border] - border
    return TokenizedText(
        encoder,
        _in_memory(encoder, parts[0], train),
        _in_memory(encoder, parts[1], held_out),
        dataset.describe() | _counts(len(dataset.text), len(starts)),
        dataset.facts,
        dataset.comparable,
        dataset.warning,
    )


def _in_memory(tokenizer: Tokenizer, text: str, starts: np.ndarray) -> Part:
    tokens, first = documents.encode(tokenizer, text, starts)
    return Part(tokens, lambda: first)


def token_stream(
    part: Part, context_length: int, *, separate: bool = False
) -> TokenStream | HostTokenStream:
    """Returns the training data of random windows; raises if the text is too short."""
    require_window(len(part.tokens), context_length)
    starts = part.documents if separate else None
    if isinstance(part.tokens, ShardedTokens):
        return HostTokenStream(part.tokens, context_length, starts)
    return windows.token_stream(part.tokens, context_length, starts)


def contiguous_streams(
    part: Part, context_length: int
) -> ContiguousStreams | HostContiguousStreams:
    """Returns the training data of truncated BPTT."""
    if isinstance(part.tokens, ShardedTokens):
        return HostContiguousStreams(part.tokens, context_length)
    return ContiguousStreams(tokens=part.tokens, context_length=context_length)


def _counts(characters: int, documents: int) -> dict[str, int]:
    return {"characters": characters} | ({"documents": documents} if documents > 1 else {})


def _in_shards(dataset: LargeText, tokenizer: str, data_dir: str | Path | None) -> TokenizedText:
    text = prepare.prepare(dataset.files, tokenizer, data_dir)
    described = {
        "name": dataset.name,
        "source": str(dataset.files.root.resolve()),
        "sha256": text.index["sha256"],
    }
    return TokenizedText(
        text.tokenizer,
        Part(text.train, lambda: text.document_starts(TRAIN)),
        Part(text.held_out, lambda: text.document_starts(HELD_OUT)),
        described | _counts(text.index["characters"], text.index["documents"]),
    )


def _of_token_files(dataset: TokenFiles, value: str, data_dir: str | Path | None) -> TokenizedText:
    token_files.require_tokenizer(value)
    tokenizer = text_tokenizer(value, TextInMemory("", ""), data_dir)
    found = token_files.open_tokens(dataset, tokenizer, data_dir)
    described = {
        "name": dataset.name,
        "source": str(dataset.root.resolve()),
        "sha256": found.sha256,
    }
    train, held_out = (
        Part(tokens, lambda: np.zeros(1, np.int64)) for tokens in (found.train, found.held_out)
    )
    return TokenizedText(tokenizer, train, held_out, described)
