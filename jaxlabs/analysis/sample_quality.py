"""What generated text is like, measured against the text that the model was trained on."""

import re
from collections.abc import Iterable, Iterator, Sequence

# Letters of any alphabet, with apostrophes inside: "o'er" is one word, "'tis" is "tis".
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# A line of its own that ends in a colon and starts with a capital: "KING HENRY VI:".
NAME = re.compile(r"[A-Z][A-Za-z.'’ -]*:")
SHARE_OF_A_PLAY = 0.5


def sample_quality(samples: Sequence[str], training_text: str) -> dict[str, float]:
    """Returns measures of `samples` by name.

    - "real_words": share (0..1) of the samples' words that occur in the training text, regardless
      of case. A word that the end of a sample may have cut off does not count.
    - "named_speeches": share (0..1) of the speeches that open with a line `NAME:`. A speech starts
      at the first line with text in it, at the start of a sample or after an empty line. Only
      reported where most speeches of the training text open so, that is, for plays.
    - "longest_copy": characters of the longest stretch of a sample that occurs in the training
      text.

    All three read differently for longer texts, the last one most of all, so what stands beside
    them for reference should be held-out text cut into pieces of the samples' own length.

    Args:
      samples: texts, each measured on its own; no stretch reaches from one into the next.
      training_text: what the model was trained on.
    """
    known = {word.casefold() for word in WORD.findall(training_text)}
    words = [word.casefold() for sample in samples for word in _whole_words(sample)]
    measures = {
        "real_words": _share(word in known for word in words),
        "longest_copy": float(longest_copy(samples, training_text)),
    }
    if _named_speeches([training_text]) > SHARE_OF_A_PLAY:
        measures["named_speeches"] = _named_speeches(samples)
    return measures


def longest_copy(samples: Sequence[str], training_text: str) -> int:
    """Returns the length of the longest string that is part of a sample and of the training text.

    When a stretch of n characters is copied, so is one of n - 1: the length is found by bisection,
    each step of which passes over the training text once.
    """

    def copied(length: int) -> bool:
        stretches = {text for sample in samples for text in _stretches(sample, length)}
        return not stretches.isdisjoint(_stretches(training_text, length))

    copied_length, too_long = 0, 1
    while copied(too_long):
        copied_length, too_long = too_long, 2 * too_long
    while too_long - copied_length > 1:
        middle = (copied_length + too_long) // 2
        if copied(middle):
            copied_length = middle
        else:
            too_long = middle
    return copied_length


def _stretches(text: str, length: int) -> Iterator[str]:
    return (text[i : i + length] for i in range(len(text) - length + 1))


def _whole_words(sample: str) -> list[str]:
    return [match.group() for match in WORD.finditer(sample) if match.end() < len(sample)]


def _named_speeches(texts: Sequence[str]) -> float:
    openings = [
        line
        for text in texts
        for before, line in zip(["", *text.split("\n")], text.split("\n"), strict=False)
        if line.strip() and not before.strip()
    ]
    return _share(NAME.fullmatch(line.strip()) is not None for line in openings)


def _share(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(hits) / len(hits) if hits else 0.0
