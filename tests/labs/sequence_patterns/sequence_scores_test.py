import numpy as np
import pytest

from jaxlabs.data.sequence_data import SequenceDataConfig, load_splits
from jaxlabs.labs.sequence_patterns.sequence_baselines import baselines
from jaxlabs.labs.sequence_patterns.sequence_scores import bleu, exact_match, spans, tag_span_f1


def test_exact_match_requires_every_word():
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
def test_spans_of_bio_tags(tags, expected):
    assert spans(tags.split()) == expected


def test_span_f1_over_sentences():
    targets = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    predictions = [["B-PER", "I-PER", "B-LOC"], ["O", "B-LOC"]]
    assert tag_span_f1(predictions, targets) == pytest.approx(2 * 1 / (3 + 2))
    assert tag_span_f1(targets, targets) == 1


def test_bleu_of_sentence_equals_hand_computed_value():
    target = [["lo", "kano", "ke", "la", "luna", "vide", "ame"]]
    assert bleu(target, target) == pytest.approx(100)
    prediction = [["lo", "kano", "ke", "la", "luna", "ame"]]
    # 6 of 6 unigrams, 4 of 5 bigrams, 3 of 4 trigrams, 2 of 3 4-grams; one word too short.
    mean = (1 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert bleu(prediction, target) == pytest.approx(100 * mean * np.exp(1 - 7 / 6))


@pytest.mark.parametrize("longest", range(1, 7))
def test_bleu_of_perfect_translations_is_100_for_any_length(longest):
    targets = [[f"w{i}" for i in range(1 + row % longest)] for row in range(20)]
    assert bleu(targets, targets) == pytest.approx(100)
    assert bleu([["x"] * len(words) for words in targets], targets) < 30


def test_bleu_of_short_translations_equals_hand_computed_value():
    # Targets have at most two words: 5 of 6 unigrams, 1 of 2 bigrams, no brevity penalty.
    targets = [["a", "b"], ["c", "d"], ["e"], ["f"]]
    predictions = [["a", "b"], ["c", "x"], ["e"], ["f"]]
    assert bleu(predictions, targets) == pytest.approx(100 * (5 / 6 * 1 / 2) ** 0.5)


def test_bleu_of_longer_translations_equals_sacrebleu():
    import sacrebleu

    targets = [["a", "b", "c", "d"], ["e"], ["f", "g"]]
    for predictions in ([["a", "b", "c", "x"], ["e"], ["f"]], [["a", "b"], ["e"], []], targets):
        hypotheses, references = (
            [" ".join(words) for words in rows] for rows in (predictions, targets)
        )
        score = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", force=True).score
        assert bleu(predictions, targets) == score


class Counted(str):
    """A word that counts the calls of its hash."""

    hashed = 0
    __eq__ = str.__eq__

    def __hash__(self):
        Counted.hashed += 1
        return str.__hash__(self)


def test_counting_time_is_linear_in_pairs():
    pairs = [((Counted(f"w{i}"),), (Counted(f"t{i}"),)) for i in range(500)]
    Counted.hashed = 0
    metrics = baselines("next_word", {"train": pairs, "test": pairs})
    assert metrics["test_last_word_accuracy"] == 1
    assert Counted.hashed < 100 * len(pairs)


def test_baselines_are_far_from_optimum():
    sizes = SequenceDataConfig(train_sentences=2000, test_sentences=200)
    metrics = {
        task: baselines(task, load_splits(task, "grammar", 0, sizes)[0])
        for task in ("next_word", "sentiment", "tagging", "translation")
    }
    assert 0.45 < metrics["sentiment"]["test_majority_accuracy"] < 0.6
    assert metrics["sentiment"]["test_bag_of_words_accuracy"] < 0.75
    assert metrics["next_word"]["test_bag_of_words_accuracy"] < 0.33
    assert metrics["next_word"]["test_last_word_accuracy"] < 0.33
    assert metrics["tagging"]["test_word_alone_span_f1"] < 0.3
    assert metrics["tagging"]["test_bag_of_words_span_f1"] < 0.6
    assert metrics["translation"]["test_word_for_word_exact_match"] < 0.1
    assert {name.partition("_")[0] for name in metrics["tagging"]} == {"test", "long"}


def test_regression_separates_decisive_words():
    pairs = [((word, "it"), (label,)) for word, label in [("good", "+"), ("bad", "-")] * 50]
    metrics = baselines("sentiment", {"train": pairs, "test": pairs})
    assert metrics == {"test_majority_accuracy": 0.5, "test_bag_of_words_accuracy": 1.0}
