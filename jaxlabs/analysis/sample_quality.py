"""Metrics of generated text relative to the training text."""

import re
from collections.abc import Iterable, Iterator, Sequence

# Letters of any alphabet, with apostrophes inside: "o'er" is one word, "'tis" is "tis".
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# A line of its own that ends in a colon and starts with a capital: "KING HENRY VI:".
NAME = re.compile(r"[A-Z][A-Za-z.'’ -]*:")
MIN_PLAY_FRACTION = 0.5


def sample_quality(samples: Sequence[str], training_text: str) -> dict[str, float]:
    """Returns metrics of `samples` by name.

    - "real_words": fraction of the samples' words that occur in the training text, ignoring case. A
      word that may be truncated by the end of a sample does not count.
    - "named_speeches": fraction of the speeches that start with a line `NAME:`. A speech starts at
      the first nonempty line of a sample or after an empty line. Only returned if most speeches of
      the training text start so, that is, for plays.
    - "longest_copy": length in characters of the longest substring of a sample that occurs in the
      training text.

    All three depend on the length of the texts, so compare with held-out text that is split into
    pieces of the length of the samples.

    Args:
      samples: texts; no substring spans two of them.
      training_text: the training text.
    """
    known = {word.casefold() for word in WORD.findall(training_text)}
    words = [word.casefold() for sample in samples for word in _whole_words(sample)]
    metrics = {
        "real_words": _mean(word in known for word in words),
        "longest_copy": float(longest_copy(samples, training_text)),
    }
    if _named_speeches([training_text]) > MIN_PLAY_FRACTION:
        metrics["named_speeches"] = _named_speeches(samples)
    return metrics


def longest_copy(samples: Sequence[str], training_text: str) -> int:
    """Returns the length of the longest common substring of a sample and the training text.

    A common substring of length n contains one of length n - 1, so the length is found by
    bisection. Each step passes over the training text once.
    """

    def copied(length: int) -> bool:
        substrings = {text for sample in samples for text in _substrings(sample, length)}
        return not substrings.isdisjoint(_substrings(training_text, length))

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


def _substrings(text: str, length: int) -> Iterator[str]:
    return (text[i : i + length] for i in range(len(text) - length + 1))


def _whole_words(sample: str) -> list[str]:
    return [match.group() for match in WORD.finditer(sample) if match.end() < len(sample)]


def _named_speeches(texts: Sequence[str]) -> float:
    openings = [
        line
        for text in texts
        for previous, line in zip(["", *text.split("\n")], text.split("\n"), strict=False)
        if line.strip() and not previous.strip()
    ]
    return _mean(NAME.fullmatch(line.strip()) is not None for line in openings)


def _mean(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(hits) / len(hits) if hits else 0.0
