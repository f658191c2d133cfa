"""Readers of files with sentences and their labels, tags or translations.

    next_word     plain text, a sentence per line
    sentiment     a label, a tab and a sentence per line
    tagging       a word and its tag per line, with optional columns between them; a blank line
                  after every sentence (the format of the CoNLL-2003 shared task)
    translation   a sentence, a tab and its translation per line; a third column, such as the
                  attribution of Tatoeba's sentence pairs, is ignored

Words are separated by ASCII spaces and tabs only: put spaces around punctuation that should be a
token. A no-break or an ideographic space may be part of a word. In tagging files, a line with tabs
has its columns separated by tabs only, and a space inside a word becomes a no-break space.
"""

import collections
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from jaxlabs.config import UserError
from jaxlabs.data import sources

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""The words of a sentence, and its target words, tags or single label."""

MAX_CONTEXT = 32
"""Maximum number of context words of the next word."""

LABELED = "a label, a tab and a sentence"
"""Form of a line with a label."""

TAG = re.compile(r"O|[BI]-\S+")
BLANKS = " \t\r\n"
WORD = re.compile(f"[^{BLANKS}]+")
NO_BREAK_SPACE = "\u00a0"
DOCUMENT = "-DOCSTART-"

# Line ends of Unix, Windows (also converted twice) and classic Mac OS. Others that
# `str.splitlines` accepts, such as U+2028, may occur inside lines.
LINE_END = re.compile(r"\r*\n|\r")


def words_of(text: str) -> tuple[str, ...]:
    """Returns the words of a sentence, separated by ASCII spaces, tabs and line ends."""
    return tuple(WORD.findall(text))


def read(task: str, path: Path) -> tuple[list[list[Pair]], list[str]]:
    """Returns the pairs of a file in groups, and warnings about the file.

    A group holds all distinct pairs of one source: a source with two translations is one group of
    two. For `next_word` a group holds a pair of context and next word for every word but the first
    of a sentence, repeated by the count of the sentence, since the task is to learn frequencies.
    The groups are in the order of the file.

    Raises:
      UserError: the file is unreadable, has no sentence, or has a malformed line; the message names
        file and line.
    """
    lines = LINE_END.split(sources.read_text_file(path))
    pairs, warnings = _READERS[task](path, lines)
    counts = collections.Counter(pairs)
    if not counts:
        raise UserError(f"{path}: holds no sentence; one per line is needed")
    if task == "next_word":
        groups = [
            [_context_and_next(words, index) for index in range(1, len(words))] * count
            for (words, _), count in counts.items()
        ]
        return groups, warnings
    by_source = collections.defaultdict(list)
    for source, target in counts:
        by_source[source].append((source, target))
    if repeated := counts.total() - len(counts):
        warnings.append(
            f"{repeated:,} of {counts.total():,} sentences are duplicates and are ignored"
        )
    return list(by_source.values()), warnings


def _context_and_next(words: tuple[str, ...], index: int) -> Pair:
    return words[max(0, index - MAX_CONTEXT) : index], words[index : index + 1]


def _plain(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    sentences = [words for line in lines if (words := words_of(line))]
    pairs = [(words, ()) for words in sentences if len(words) > 1]
    warnings = []
    if short := len(sentences) - len(pairs):
        warnings.append(f"{short:,} of {len(sentences):,} lines have a single word and are ignored")
    return pairs, warnings


def _labeled(path: Path, lines: list[str]) -> tuple[list[Pair], list[str]]:
    first_line: dict[str, int] = {}
    sentences = collections.defaultdict(set)
    pairs = []
    for number, (label, sentence) in read_columns(path, lines, LABELED, num_columns=(2,)):
        name, words = " ".join(words_of(label)), words_of(sentence)
        first_line.setdefault(name, number)
        sentences[name].add(words)
        pairs.append((words, (name,)))
    distinct = {sentence for sentence, _ in pairs}
    if len(sentences) > len(distinct):
        raise UserError(
            f"{path}: {len(sentences):,} labels for {len(distinct):,} different sentences; every"
            " label needs two sentences, and the label precedes the tab"
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
    rows = read_columns(path, lines, "a sentence, a tab and its translation", num_columns=(2, 3))
    pairs = [(words_of(cells[0]), words_of(cells[1])) for _, cells in rows]
    warnings = []
    if rows and len(rows[0][1]) == 3:
        excerpt = " ".join(words_of(rows[0][1][2]))[:40]
        warnings.append(f"the third column ({excerpt!r} in the first line) is ignored")
    if _may_be_header(pairs):
        (source,), (target,) = pairs[0]
        warnings.append(
            f"line {rows[0][0]} ({source!r}, {target!r}) is read as a pair; if it is a header,"
            " remove it"
        )
    return pairs, warnings


def _may_be_header(pairs: list[Pair]) -> bool:
    """Returns whether the first pair has one word each, and both words occur in no other pair."""
    if not pairs or any(len(side) != 1 or not side[0][-1].isalnum() for side in pairs[0]):
        return False
    others = [{word for pair in pairs[1:] for word in pair[side]} for side in (0, 1)]
    return not any(side[0] in known for side, known in zip(pairs[0], others, strict=True))


def read_columns(
    path: Path, lines: list[str], form: str, num_columns: tuple[int, ...]
) -> list[tuple[int, list[str]]]:
    """Returns the rows of a tab-separated file: the number of each line, and its columns.

    Blank lines are ignored. All rows need the most frequent of the accepted `num_columns`. Messages
    name the path and describe the `form` of a line.

    Raises:
      UserError: a row has another number of columns, or one of the first two is empty.
    """
    rows = [
        (number, line.split("\t"))
        for number, line in enumerate(lines, start=1)
        if line.strip(BLANKS)
    ]
    usual = _most_frequent(len(cells) for _, cells in rows)
    needed = usual if usual in num_columns else num_columns[0]
    for number, cells in rows:
        if len(cells) != needed:
            wanted = f"{form} are" if needed == num_columns[0] else f"{needed} as in most lines are"
            found = f"{len(cells)} column{'s' * (len(cells) != 1)} in {lines[number - 1][:40]!r}"
            raise UserError(f"{path}, line {number}: {found}; {wanted} needed")
        if not all(cell.strip(BLANKS) for cell in cells[:2]):
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
    return pairs, [f"{comments:,} comment lines are ignored"] if comments else []


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
    """Returns the columns of a line, split at tabs if it has any, else at spaces."""
    line = line.rstrip(BLANKS)
    if "\t" not in line:
        return list(words_of(line))
    return [NO_BREAK_SPACE.join(words_of(cell)) for cell in line.split("\t")]


def _most_frequent(numbers: Iterable[int]) -> int:
    """Returns the most frequent number, the first in case of a tie; 0 if there is none."""
    return next(iter(collections.Counter(numbers).most_common(1)), (0, 0))[0]


_READERS: dict[str, Callable[[Path, list[str]], tuple[list[Pair], list[str]]]] = {
    "next_word": _plain,
    "sentiment": _labeled,
    "tagging": _tagged,
    "translation": _translated,
}
TASKS = tuple(_READERS)
