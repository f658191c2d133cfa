import numpy as np
import pytest

from jaxlabs.analysis.sequence_baselines import baselines
from jaxlabs.analysis.sequence_scores import bleu, exact_match, spans, tag_span_f1
from jaxlabs.data.sequence_splits import SequenceDataConfig, splits_of


def test_exact_match_wants_every_word():
    targets = [["a", "b"], ["c"], ["d"]]
    assert exact_match([["a", "b"], ["c", "c"], ("d",)], targets) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("I-PER I-LOC O I-LOC", [("PER", 0, 1), ("LOC", 1, 2), ("LOC", 3, 4)]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans_of_hand_made_tags(tags, expected):
    assert spans(tags.split()) == expected


def test_span_f1_over_sentences():
    targets = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    guesses = [["B-PER", "I-PER", "B-LOC"], ["O", "B-LOC"]]
    assert tag_span_f1(guesses, targets) == pytest.approx(2 * 1 / (3 + 2))
    assert tag_span_f1(targets, targets) == 1


def test_bleu_of_a_sentence_by_hand():
    target = [["lo", "kano", "ke", "la", "luna", "vide", "ame"]]
    assert bleu(target, target) == pytest.approx(100)
    guess = [["lo", "kano", "ke", "la", "luna", "ame"]]
    # All 6 words, 4 of 5 pairs, 3 of 4 triples, 2 of 3 fours; one word too short.
    mean = (1 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert bleu(guess, target) == pytest.approx(100 * mean * np.exp(1 - 7 / 6))


def test_who_counts_words_is_far_from_the_optimum():
    sizes = SequenceDataConfig(train_sentences=2000, test_sentences=200)
    figures = {
        task: baselines(task, splits_of(task, "grammar", 0, sizes))
        for task in ("next_word", "sentiment", "tagging", "translation")
    }
    assert 0.45 < figures["sentiment"]["test_majority_accuracy"] < 0.6
    assert figures["sentiment"]["test_bag_of_words_accuracy"] < 0.75
    assert figures["next_word"]["test_bag_of_words_accuracy"] < 0.33
    assert figures["next_word"]["test_last_word_accuracy"] < 0.33
    assert figures["tagging"]["test_word_alone_span_f1"] < 0.3
    assert figures["tagging"]["test_bag_of_words_span_f1"] < 0.6
    assert figures["translation"]["test_word_for_word_exact_match"] < 0.1
    assert {name.partition("_")[0] for name in figures["tagging"]} == {"test", "longer"}


def test_a_regression_tells_words_apart_that_decide():
    pairs = [((word, "it"), (label,)) for word, label in [("good", "+"), ("bad", "-")] * 50]
    figures = baselines("sentiment", {"train": pairs, "test": pairs})
    assert figures == {"test_majority_accuracy": 0.5, "test_bag_of_words_accuracy": 1.0}
