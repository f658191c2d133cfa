"""Scores of sequences of words or tags: exact match, span F1, BLEU."""

from collections.abc import Sequence

from jaxlabs.losses.spans import span_f1

Words = Sequence[Sequence[str]]


def exact_match(predictions: Words, targets: Words) -> float:
    """Returns the fraction of predictions that equal their target in every word."""
    pairs = zip(predictions, targets, strict=True)
    return sum(list(prediction) == list(target) for prediction, target in pairs) / len(targets)


def tag_span_f1(predictions: Words, targets: Words) -> float:
    """Returns the F1 of spans with correct type and boundaries, over all sentences."""
    predicted, gold = (
        {(row, *span) for row, tags in enumerate(rows) for span in spans(tags)}
        for rows in (predictions, targets)
    )
    return span_f1(len(predicted & gold), len(predicted), len(gold))


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns the spans of BIO tags as (type, start, end), end exclusive.

    An I tag that does not continue a span of its type starts one, as in the CoNLL-2000 evaluation.
    """
    result: list[tuple[str, int, int]] = []
    for index, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix not in ("B", "I"):
            continue
        if prefix == "I" and result and result[-1][0] == kind and result[-1][2] == index:
            result[-1] = (kind, result[-1][1], index + 1)
        else:
            result.append((kind, index, index + 1))
    return result


def bleu(predictions: Words, targets: Words) -> float:
    """Returns the corpus BLEU in percent (Papineni et al. 2002), by sacrebleu (Post 2018).

    Words are not tokenized further (`tokenize="none"`); n-grams up to 4, exponential smoothing. If
    all targets are shorter than 4 words, the maximum n-gram order is that of the longest one.
    """
    from sacrebleu.metrics import BLEU  # slow import that most labs do not need

    max_length = max(1, *map(len, targets))
    score = BLEU(tokenize="none", force=True, max_ngram_order=min(4, max_length))
    hypotheses, references = (
        [" ".join(words) for words in rows] for rows in (predictions, targets)
    )
    return score.corpus_score(hypotheses, [references]).score
