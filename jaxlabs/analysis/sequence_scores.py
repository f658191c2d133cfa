"""Scores of sequences of words or tags: exact match, span F1, BLEU."""

from collections.abc import Sequence

from jaxlabs.losses.spans import span_f1

Words = Sequence[Sequence[str]]


def exact_match(guesses: Words, targets: Words) -> float:
    """Returns the share of guesses that equal their target in every word."""
    pairs = zip(guesses, targets, strict=True)
    return sum(list(guess) == list(target) for guess, target in pairs) / len(targets)


def tag_span_f1(guesses: Words, targets: Words) -> float:
    """Returns the F1 of spans that are right in kind, beginning and end, over all sentences."""
    found, there = (
        {(row, *span) for row, tags in enumerate(rows) for span in spans(tags)}
        for rows in (guesses, targets)
    )
    return span_f1(len(found & there), len(found), len(there))


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns the spans of BIO tags as (kind, first place, place after the last one).

    An I that no span of its kind leads up to begins one, as in the CoNLL-2000 evaluation.
    """
    found: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        mark, _, kind = tag.partition("-")
        if mark not in ("B", "I"):
            continue
        if mark == "I" and found and found[-1][0] == kind and found[-1][2] == place:
            found[-1] = (kind, found[-1][1], place + 1)
        else:
            found.append((kind, place, place + 1))
    return found


def bleu(guesses: Words, targets: Words) -> float:
    """Returns the corpus BLEU in percent (Papineni et al. 2002), by sacrebleu (Post 2018).

    Words are taken as they are (`tokenize="none"`), n-grams up to 4, smoothed exponentially. Where
    no target has four words there are no 4-grams to match: n-grams are as long as the longest one.
    """
    from sacrebleu.metrics import BLEU  # takes a moment, and most labs need none

    longest = max(1, *map(len, targets))
    score = BLEU(tokenize="none", force=True, max_ngram_order=min(4, longest))
    found, wanted = ([" ".join(words) for words in rows] for rows in (guesses, targets))
    return score.corpus_score(found, [wanted]).score
