"""A stream of text, split into a training and a held-out part, and cut into blocks to encode.

A block is encoded on its own: a whole document, or a part of a long one, cut where its tokenizer
allows it. So the tokens are those of whole documents, and do not depend on where reading began.
Only a document of more than MAX_UNSPLIT characters without such a place is cut elsewhere.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jaxlabs.data.text_files import Piece
from jaxlabs.data.tokenizers import Tokenizer

TRAIN, HELD_OUT = PARTS = ("train", "held_out")
"""The first 90 % of the characters, and the rest."""

BATCH = 2**22
"""Characters of the blocks that are encoded at once, on all cores if the tokenizer can."""

BLOCK = 2**18
"""Characters from which on a document is cut."""

MAX_UNSPLIT = 2**20
"""Characters after which a text is cut where its tokenizer has no point to split it."""


class Segment(NamedTuple):
    """A text that lies in one document and in one part."""

    part: str
    text: str
    starts: bool  #: whether a document, or the held-out part, starts here


class Block(NamedTuple):
    """A text that is encoded on its own."""

    text: str
    starts: bool  #: whether a document, or the held-out part, starts here


def segments(pieces: Iterable[Piece], border: int, first: int = 0) -> Iterator[Segment]:
    """Yields the text from character `first` on; the held-out part begins at `border`."""
    position, starts = 0, True
    for text, ends in pieces:
        cuts = {0, len(text), first - position, border - position}
        for begin, end in itertools.pairwise(sorted(cut for cut in cuts if 0 <= cut <= len(text))):
            at = position + begin
            if at >= first:
                part = TRAIN if at < border else HELD_OUT
                yield Segment(part, text[begin:end], starts or at == border)
            starts = False
        position, starts = position + len(text), starts or ends


def batches(found: Iterable[Segment], tokenizer: Tokenizer) -> Iterator[list[Block]]:
    """Yields the blocks of the segments of one part, about `BATCH` characters at once."""
    batch, size = [], 0
    for block in _blocks(found, tokenizer):
        batch.append(block)
        size += len(block.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _blocks(found: Iterable[Segment], tokenizer: Tokenizer) -> Iterator[Block]:
    rest, begins = "", False
    for _, text, starts in found:
        if starts:
            if rest:
                yield Block(rest, begins)
            rest, begins = "", True
        rest += text
        if len(rest) >= BLOCK:
            cut = tokenizer.split_point(rest) or (len(rest) if len(rest) > MAX_UNSPLIT else 0)
            if cut:
                yield Block(rest[:cut], begins)
                rest, begins = rest[cut:], False
    if rest:
        yield Block(rest, begins)


def slices(pieces: Iterable[Piece], parts: Sequence[slice]) -> Iterator[str]:
    """Yields the text of each slice; they ascend and do not overlap."""
    position, found, parts = 0, [], list(parts)
    for text, _ in pieces:
        end = position + len(text)
        while parts and parts[0].start < end:
            found.append(text[max(parts[0].start - position, 0) : parts[0].stop - position])
            if parts[0].stop > end:
                break
            yield "".join(found)
            found = []
            parts.pop(0)
        if not parts:
            return
        position = end


def lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a text that comes in pieces."""
    rest = ""
    for text in texts:
        *whole, rest = (rest + text).split("\n")
        yield from whole
    yield rest


def until(pieces: Iterable[Piece], border: int) -> Iterator[str]:
    """Yields the text before character `border` in pieces."""
    train = itertools.takewhile(lambda segment: segment.part == TRAIN, segments(pieces, border))
    return (segment.text for segment in train)
