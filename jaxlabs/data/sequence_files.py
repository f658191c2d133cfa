"""Sentences and what is to be said about them, from a user's own file.

    next_word     plain text, a sentence on every line
    sentiment     a label, a tab and a sentence on every line
    tagging       a word and its tag on every line, other columns between them; a blank line after
                  every sentence (the format of the CoNLL-2003 shared task)
    translation   a sentence, a tab and its translation on every line; a third column, such as the
                  attribution of Tatoeba's sentence pairs, is left out

Words are what stands between spaces: punctuation that should count by itself stands apart. Only
ASCII spaces and tabs separate words, so that a no-break space or an ideographic one may stand
inside a word or be one. Where a line of tags has tabs, these alone separate its columns, and a
space inside a word becomes a no-break space.
"""

import collections
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from jaxlabs.config import UserError
from jaxlabs.data import sources

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""A sentence's words, and the words, tags or single label that belong to it."""

CONTEXT = 32
"""Most words before the one to be guessed that are read."""

TAG = re.compile(r"O|[BI]-\S+")
BLANKS = " \t\r\n"
WORD = re.compile(f"[^{BLANKS}]+")
NO_BREAK_SPACE = "\u00a0"
DOCUMENT = "-DOCSTART-"

# Line ends of Unix, Windows (also converted twice) and old Macs. Others, such as U+2028, which
# `str.splitlines` knows, stand inside lines.
LINE_END = re.compile(r"\r*\n|\r")


def words_of(text: str) -> tuple[str, ...]:
    """Returns the words of a sentence: what ASCII spaces, tabs and line ends separate."""
    return tuple(WORD.findall(text))


def read(task: str, path: Path) -> tuple[list[list[Pair]], list[str]]:
    """Returns the pairs of a file in groups, and what is worth knowing about what was read.

    A group holds all pairs of one source, each once: a source with two translations is one group of
    two. For `next_word` a group holds one pair for every word but the first of a sentence, each
    with the words before, as often as the sentence stands in the file: how often words follow
    others is what is learned. The groups are in the order of the file.

    Raises:
      UserError: the file cannot be read, holds no sentence, or has a line that is not as the task
        needs it; file and line are named.
    """
    lines = LINE_END.split(sources.read_text_file(path))
    pairs, notices = _READERS[task](path, lines)
    counts = collections.Counter(pairs)
    if not counts:
        raise UserError(f"{path}: holds no sentence; one on every line is needed")
    if task == "next_word":
        groups = [
            [_beginning(words, place) for place in range(1, len(words))] * count
            for (words, _), count in counts.items()
        ]
        return groups, notices
    by_source = collections.defaultdict(list)
    for source, target in counts:
        by_source[source].append((source, target))
    if repeated := counts.total() - len(counts):
        notices.append(
            f"{repeated:,} of {counts.total():,} sentences repeat an earlier one and are left out"
        )
    return list(by_source.values()), notices


def _beginning(words: tuple[str, ...], place: int) -> Pair:
    return words[max(0, place - CONTEXT) : place], words[place : place + 1]


def _plain(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    sentences = [words for line in lines if (words := words_of(line))]
    pairs = [(words, ()) for words in sentences if len(words) > 1]
    notices = []
    if short := len(sentences) - len(pairs):
        notices.append(f"{short:,} of {len(sentences):,} lines hold a single word and are left out")
    return pairs, notices


def _labeled(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    rows = _columns(path, lines, "a label, a tab and a sentence", widths=(2,))
    first_line: dict[str, int] = {}
    sentences = collections.defaultdict(set)
    pairs = []
    for number, (label, sentence) in rows:
        name = " ".join(label)
        first_line.setdefault(name, number)
        sentences[name].add(sentence)
        pairs.append((sentence, (name,)))
    distinct = {sentence for sentence, _ in pairs}
    if len(sentences) > len(distinct):
        raise UserError(
            f"{path}: {len(sentences):,} labels for {len(distinct):,} different sentences; every"
            " label needs two sentences, and comes before the tab"
        )
    rare = [name for name, known in sentences.items() if len(known) == 1]
    if rare:
        others = f", as have {len(rare) - 1:,} others" if len(rare) > 1 else ""
        raise UserError(
            f"{path}, line {first_line[rare[0]]}: label {rare[0]!r} has a single sentence{others};"
            " every label needs two, and a header is not accepted"
        )
    return pairs, []


def _translated(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    rows = _columns(path, lines, "a sentence, a tab and its translation", widths=(2, 3))
    pairs = [(cells[0], cells[1]) for _, cells in rows]
    notices = []
    if rows and len(rows[0][1]) == 3:
        shown = " ".join(rows[0][1][2])[:40]
        notices.append(f"the third column ({shown!r} in the first line) is left out")
    if _may_be_header(pairs):
        (source,), (target,) = pairs[0]
        notices.append(
            f"line {rows[0][0]} ({source!r}, {target!r}) is read as a pair; if it is a header,"
            " remove it"
        )
    return pairs, notices


def _may_be_header(pairs: list[Pair]) -> bool:
    """Says whether the first pair is of one word each, and both words stand in no other pair."""
    if not pairs or any(len(side) != 1 or not side[0][-1].isalnum() for side in pairs[0]):
        return False
    others = [{word for pair in pairs[1:] for word in pair[side]} for side in (0, 1)]
    return not any(side[0] in known for side, known in zip(pairs[0], others, strict=True))


Row = tuple[int, list[tuple[str, ...]]]
"""A line's number and the words of its columns."""


def _columns(path: Path, lines: list[str], form: str, widths: tuple[int, ...]) -> list[Row]:
    """Returns the rows of a tab-separated file, all of them as wide as most of its lines are."""
    rows = [
        (number, [words_of(cell) for cell in line.split("\t")])
        for number, line in enumerate(lines, start=1)
        if line.strip(BLANKS)
    ]
    usual = _most_frequent(len(cells) for _, cells in rows)
    needed = usual if usual in widths else widths[0]
    for number, cells in rows:
        if len(cells) != needed:
            wanted = f"{form} are" if needed == widths[0] else f"{needed} as in most lines are"
            found = f"{len(cells)} column{'s' * (len(cells) != 1)} in {lines[number - 1][:40]!r}"
            raise UserError(f"{path}, line {number}: {found}; {wanted} needed")
        if not all(cells[:2]):
            raise UserError(f"{path}, line {number}: an empty column; {form} are needed")
    return rows


def _tagged(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    rows = [_tag_columns(line) for line in lines]
    are_words = [row for row in rows if row and row[0] not in ("#", DOCUMENT)]
    width = _most_frequent(map(len, are_words))
    has_tabs = sum("\t" in line.rstrip(BLANKS) for line in lines) > len(are_words) / 2
    pairs, words, tags, comments = [], [], [], 0
    for number, (line, row) in enumerate(zip([*lines, ""], [*rows, []], strict=True), start=1):
        if row[:1] == ["#"] and "\t" not in line and (has_tabs or len(row) != width):
            comments += 1
            continue
        if not row or row[0] == DOCUMENT:
            if words:
                pairs.append((tuple(words), tuple(tags)))
            words, tags = [], []
            continue
        _require_word_and_tag(f"{path}, line {number}", row, width)
        words.append(row[0])
        tags.append(row[-1])
    return pairs, [f"{comments:,} comment lines are left out"] if comments else []


def _require_word_and_tag(where: str, row: list[str], width: int) -> None:
    if len(row) < 2:
        raise UserError(f"{where}: 1 column; a word and its tag are needed")
    if len(row) != width:
        raise UserError(f"{where}: {len(row)} columns; {width} as in most lines are needed")
    if not row[0]:
        raise UserError(f"{where}: an empty column; a word and its tag are needed")
    if not TAG.fullmatch(row[-1]):
        raise UserError(f"{where}: tag {row[-1]!r} is not accepted; O, B-<kind> or I-<kind>")


def _tag_columns(line: str) -> list[str]:
    """Returns the columns of a line: cut at tabs where it has any, else at spaces."""
    line = line.rstrip(BLANKS)
    if "\t" not in line:
        return list(words_of(line))
    return [NO_BREAK_SPACE.join(words_of(cell)) for cell in line.split("\t")]


def _most_frequent(widths: Iterable[int]) -> int:
    """Returns the most frequent number, the first of those that are; 0 if there is none."""
    return next(iter(collections.Counter(widths).most_common(1)), (0, 0))[0]


_READERS: dict[str, Callable[[Path, list[str]], tuple[list[Pair], list[str]]]] = {
    "next_word": _plain,
    "sentiment": _labeled,
    "tagging": _tagged,
    "translation": _translated,
}
TASKS = tuple(_READERS)
