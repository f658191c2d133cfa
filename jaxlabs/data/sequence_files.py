"""Sentences and what is to be said about them, from a user's own file.

    next_word     plain text, a sentence on every line
    sentiment     a label, a tab and a sentence on every line
    tagging       a word and its tag on every line, other columns between them; a blank line after
                  every sentence (the format of the CoNLL-2003 shared task)
    translation   a sentence, a tab and its translation on every line

Words are what stands between spaces: punctuation that should count by itself stands apart.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from jaxlabs.config import UserError
from jaxlabs.data import sources

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""A sentence's words, and the words, tags or single label that belong to it."""

CONTEXT = 32
"""Most words before the one to be guessed that are read."""

TAG = re.compile(r"O|[BI]-\S+")


def read(task: str, path: Path) -> list[list[Pair]]:
    """Returns the pairs of every sentence of a file that differs from those before it.

    That is one pair; for `next_word` one for every word but the first, each with the words before.

    Raises:
      UserError: the file cannot be read, holds no sentence, or has a line that is not as the task
        needs it; file and line are named.
    """
    lines = sources.read_text_file(path).replace("\r\n", "\n").split("\n")
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    for source, target in _READERS[task](path, lines):
        pairs.setdefault(source, target)
    if not pairs:
        raise UserError(f"{path}: holds no sentence; one on every line is needed")
    if task != "next_word":
        return [[pair] for pair in pairs.items()]
    return [[_beginning(words, place) for place in range(1, len(words))] for words in pairs]


def _beginning(words: tuple[str, ...], place: int) -> Pair:
    return words[max(0, place - CONTEXT) : place], words[place : place + 1]


def _plain(path: Path, lines: list[str]) -> Iterator[Pair]:
    for line in lines:
        if len(words := tuple(line.split())) > 1:  # one word has nothing before it
            yield words, ()


def _labelled(path: Path, lines: list[str]) -> Iterator[Pair]:
    for label, sentence in _columns(path, lines, "a label, a tab and a sentence"):
        yield sentence, (" ".join(label),)


def _translated(path: Path, lines: list[str]) -> Iterator[Pair]:
    yield from _columns(path, lines, "a sentence, a tab and its translation")


def _columns(path: Path, lines: list[str], form: str) -> Iterator[Pair]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        columns = [tuple(column.split()) for column in line.split("\t")]
        if len(columns) != 2:
            found = f"{len(columns)} column{'s' * (len(columns) != 1)} in {line[:40]!r}"
            raise UserError(f"{path}, line {number}: {found}; {form} are needed")
        if not all(columns):
            raise UserError(f"{path}, line {number}: an empty column; {form} are needed")
        yield columns[0], columns[1]


def _tagged(path: Path, lines: list[str]) -> Iterator[Pair]:
    words, tags, width = [], [], None
    for number, line in enumerate([*lines, ""], start=1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if words:
                yield tuple(words), tuple(tags)
            words, tags = [], []
            continue
        width = width or len(columns)
        if len(columns) < 2:
            raise UserError(f"{path}, line {number}: 1 column; a word and its tag are needed")
        if len(columns) != width:
            raise UserError(
                f"{path}, line {number}: {len(columns)} columns; {width} as in the lines before"
                " are needed"
            )
        if not TAG.fullmatch(columns[-1]):
            raise UserError(
                f"{path}, line {number}: tag {columns[-1]!r} is not accepted; O, B-<kind> or"
                " I-<kind>"
            )
        words.append(columns[0])
        tags.append(columns[-1])


_READERS = {
    "next_word": _plain,
    "sentiment": _labelled,
    "tagging": _tagged,
    "translation": _translated,
}
TASKS = tuple(_READERS)
