import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.labs.speech_classifier.sentence_predictions import (
    class_accuracies,
    confusion_counts,
    format_predictions,
    require_known,
)
from jaxlabs.models.text_encoder import TextClassifier, TextClassifierConfig

VOCABULARY = WordTokenizer(("no", "yes")).to_json() | {
    "speakers": ["A", "B"],
    "examples": [[0, "yes"], [1, "yes yes"], [1, "no"]],
}


@pytest.fixture(scope="module")
def always_a():
    """A classifier that always answers A, with logits 2 and 0."""
    config = TextClassifierConfig(
        **{
            "vocab_size": 4,
            "context_length": 3,
            "embed_dim": 2,
            "num_layers": 1,
            "num_heads": 1,
        },
        **{"mlp_dim": 2, "num_classes": 2, "hidden_size": 2, "ngram_hash_buckets": 64},
    )
    model = TextClassifier(config)
    params = model.init(jax.random.key(0), np.ones((1, 3), np.int32))["params"]
    zeros = {name: jax.tree.map(np.zeros_like, leaf) for name, leaf in params.items()}
    zeros["head"]["bias"] = np.array([2.0, 0.0], np.float32)
    return model, zeros


def test_confusion_counts_has_every_sentence_once(always_a):
    model, params = always_a
    labels = np.array([0, 1, 1, 0, 1], np.int32)
    examples = Examples({"inputs": np.full((5, 3), 2, np.int32), "labels": labels})
    counts = confusion_counts(model, params, examples, batch_size=2)
    np.testing.assert_array_equal(counts, [[2, 0], [3, 0]])


def test_class_accuracy_is_over_its_own_sentences():
    counts = np.array([[3, 1, 0], [2, 2, 4], [0, 0, 0]])
    accuracies = class_accuracies(counts, ["a", "b", "c"])
    assert accuracies["a"] == 0.75
    assert accuracies["b"] == 0.25
    assert np.isnan(accuracies["c"])


def test_format_predictions_has_probabilities_of_sentences(always_a):
    lines = format_predictions(*always_a, VOCABULARY, None).splitlines()
    assert lines == [
        "A (label: A): A 0.88, B 0.12: yes",
        "A (label: B): A 0.88, B 0.12: yes yes",
        "A (label: B): A 0.88, B 0.12: no",
    ]
    assert format_predictions(*always_a, VOCABULARY, "yes, well") == "A: A 0.88, B 0.12: yes, well"


def test_prompt_of_unknown_words_is_refused():
    require_known(None, VOCABULARY)
    require_known("yes indeed", VOCABULARY)
    with pytest.raises(UserError, match="prompt: all words of 'maybe' are out of vocabulary"):
        require_known("maybe", VOCABULARY)
