"""Bayes accuracy and entropies of the speaker grammar equal those of enumeration."""

import itertools
import math

import numpy as np
import pytest

from jaxlabs.data.speaker_grammar import SLOTS, SpeakerGrammar

SPEAKERS = 3


@pytest.fixture(scope="module")
def grammar():
    return SpeakerGrammar.random()


@pytest.fixture(scope="module")
def sentences(grammar):
    """Each possible sentence and its probability by speaker, computed directly."""
    probabilities = {}
    for choice in itertools.product(*(range(len(slot)) for slot in SLOTS)):
        words = " ".join(slot[i] for slot, i in zip(SLOTS, choice, strict=True) if slot[i])
        probabilities[words + "."] = [
            math.prod(rows[s][i] for rows, i in zip(grammar.probabilities, choice, strict=True))
            for s in range(SPEAKERS)
        ]
    return probabilities


def test_sentences_are_distinct_and_probabilities_sum_to_one(grammar, sentences):
    assert len(sentences) == math.prod(map(len, SLOTS)) == grammar.likelihoods.shape[1]
    np.testing.assert_allclose(np.sum(list(sentences.values()), axis=0), 1, rtol=1e-9)


def test_optimum_equals_that_of_enumeration(grammar, sentences):
    accuracy = sum(max(row) for row in sentences.values()) / SPEAKERS
    loss = -sum(p * math.log(p / sum(row)) for row in sentences.values() for p in row) / SPEAKERS
    assert grammar.bayes_accuracy == pytest.approx(accuracy, rel=1e-9)
    assert grammar.bayes_loss == pytest.approx(loss, rel=1e-9)
    assert 0.7 < accuracy < 0.9
    for speaker in (None, 0, 1, 2):
        nats = words = 0.0
        for text, row in sentences.items():
            true = sum(row) / SPEAKERS if speaker is None else row[speaker]
            nats -= true * math.log(sum(row) / SPEAKERS)
            words += true * (len(text.split()) + 1)
        assert grammar.cross_entropy(speaker) == pytest.approx(nats / words, rel=1e-9)


def test_sampled_sentences_have_the_bayes_accuracy_and_loss(grammar, sentences):
    generator = np.random.default_rng(1)
    correct, nats, count = 0, 0.0, 3000
    speakers = np.arange(count) % SPEAKERS
    for speaker, text in zip(speakers, grammar.sample(speakers, generator), strict=True):
        row = sentences[text]
        correct += int(np.argmax(row)) == speaker
        nats -= math.log(row[speaker] / sum(row))
    # Three standard errors: of a share near 0.8, and of a loss with standard deviation near 0.6.
    assert correct / count == pytest.approx(grammar.bayes_accuracy, abs=3 * 0.4 / count**0.5)
    assert nats / count == pytest.approx(grammar.bayes_loss, abs=3 * 0.6 / count**0.5)
