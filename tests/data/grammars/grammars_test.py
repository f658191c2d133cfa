"""Grammars: next-word distributions, labels, tags and translations match independent rules."""

import collections

import numpy as np
import pytest

from jaxlabs.data.grammars import next_word, sentiment, tagging, translation

GRAMMARS = [next_word, sentiment, tagging, translation]


def sampled(grammar, count, lengths=None, seed=0):
    generator = np.random.default_rng(seed)
    return [grammar.sample(generator, lengths or grammar.TRAIN_LENGTHS) for _ in range(count)]


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.__name__.split(".")[-1])
def test_sentences_depend_on_the_seed_and_have_the_lengths(grammar):
    assert sampled(grammar, 20) == sampled(grammar, 20)
    assert sampled(grammar, 20) != sampled(grammar, 20, seed=1)
    for lengths in (grammar.TRAIN_LENGTHS, grammar.OOD_LENGTHS):
        assert all(len(source) in lengths for source, _ in sampled(grammar, 100, lengths))
    assert grammar.OOD_LENGTHS[0] > grammar.TRAIN_LENGTHS[-1]


# Next word


def test_next_word_probabilities_sum_to_one_in_every_state():
    reached, pending = {next_word.State()}, [next_word.State()]
    while pending:
        after = next_word.continuations(pending.pop())
        assert not after or sum(p for _, p, _ in after) == pytest.approx(1)
        assert len({word for word, _, _ in after}) == len(after)  # the words determine the state
        new = {state for _, _, state in after} - reached
        reached |= new
        pending += new
    assert len(reached) > 500


def test_next_word_probabilities_agree_with_the_subject_across_distractors():
    probs = next_word.next_word_probs(["these", "dogs", "that", "every", "teacher"])
    assert probs["paints"] == pytest.approx(0.5 * 0.65)  # relative and phrases leave a half
    assert "paint" not in probs
    probs = next_word.next_word_probs(["these", "dogs", "near", "the", "old", "clock"])
    assert probs["run"] == pytest.approx(0.75 * 0.65)
    assert "hums" not in probs
    with pytest.raises(ValueError, match="'hums' cannot follow"):
        next_word.next_word_probs(["these", "dogs", "hums"])


def test_next_word_frequencies_match_the_probabilities():
    counts, expected = collections.Counter(), collections.Counter()
    for source, target in sampled(next_word, 4000, range(6, 7)):
        counts[target[0]] += 1
        expected.update(next_word.next_word_probs(source))
    for word, mean in expected.items():
        assert abs(counts[word] - mean) < 5 * max(mean, 1) ** 0.5, word


def test_next_word_optimum():
    sources = [["every", "dog", "runs"], ["every", "dog", "runs"]]
    optimum = next_word.optimum(sources, [["."], ["and"]])
    nll = [-np.log(0.4), -np.log(0.35)]
    assert optimum["bayes_accuracy"] == pytest.approx(0.4)
    assert optimum["optimal_accuracy"] == pytest.approx(0.5)
    assert optimum["optimal_loss"] == pytest.approx(np.mean(nll))
    entropy = -sum(p * np.log(p) for p in (0.4, 0.35, 0.25))
    assert optimum["entropy"] == pytest.approx(entropy)


# Sentiment


def expected_label(words):
    """The label by the rules in the docstring of the module, implemented independently."""
    text = " ".join(words)
    if " although " in text:
        text = text.partition(" although ")[0]
    elif text.startswith("although "):
        text = text.partition(" , ")[2]
    elif " but " in text:
        text = text.partition(" but ")[2]
    negations = 0
    frames = sorted(sentiment.FRAMES, key=len, reverse=True)
    while frame := next((frame for frame in frames if text.startswith(frame)), None):
        negations += sum(frame.count(word) for word in ("not", "nobody", "doubt"))
        text = text.removeprefix(frame).strip()
    predicate = text.removesuffix(" .").split()
    if "that" in predicate:  # skip the relative clause
        predicate = predicate[predicate.index("that") + 1 :]
        predicate = predicate[next(i for i, w in enumerate(predicate) if w in WORDS) + 1 :]
    negations += any(word in ("not", "never", "hardly") for word in predicate)
    (word,) = [word for word in predicate if word in WORDS]
    return sentiment.LABELS[(word in sentiment.ADJECTIVES[True]) ^ (negations % 2)]


WORDS = {word for words in sentiment.ADJECTIVES.values() for word in words}


def test_labels_follow_scope_and_double_negation():
    for lengths in (sentiment.TRAIN_LENGTHS, sentiment.OOD_LENGTHS):
        for source, target in sampled(sentiment, 500, lengths):
            assert expected_label(source) == target[0], " ".join(source)


# Tags


def test_names_have_every_kind_and_endings_are_part_of_them():
    tags = collections.defaultdict(set)
    for source, target in sampled(tagging, 3000):
        for word, tag in zip(source, target, strict=True):
            tags[word].add(tag)
    assert len(tags["jordan"]) == 6  # B and I of every kind
    assert {"O", "I-ORG"} <= tags["bank"]


def test_tags_are_well_formed():
    for source, target in sampled(tagging, 500, tagging.OOD_LENGTHS):
        assert len(source) == len(target)
        for before, tag in zip(["O", *target], target, strict=False):
            assert tag[0] != "I" or before[2:] == tag[2:]


# Translation


def parse_sentence(words):
    """Translates by recursive descent, independently of `translation.sample`."""
    subject, plural = parse_noun(words)
    verb = parse_verb(words, plural)
    direct_object, _ = parse_noun(words)
    return [*subject, *direct_object, verb]


def parse_noun(words):
    determiner = {"the": "l", "this": "est", "these": "est"}[words.pop(0)]
    adjective = translation.ADJECTIVES.get(words[0])
    if adjective:
        words.pop(0)
    noun = words.pop(0)
    plural = noun.endswith("s")
    stem, gender = translation.NOUNS[noun.removesuffix("s")]
    ending = gender + "s" * plural
    target = [determiner + ending, stem + ending] + ([adjective + ending] if adjective else [])
    if words and words[0] == "that":
        words.pop(0)
        if words[0] in ("the", "this", "these"):
            inner, inner_many = parse_noun(words)
            target += ["ke", *inner, parse_verb(words, inner_many)]
        else:
            verb = parse_verb(words, plural)
            target += ["ke", *parse_noun(words)[0], verb]
    return target, plural


def parse_verb(words, plural):
    verb = words.pop(0)
    assert verb.endswith("s") != plural  # agreement in English
    return translation.VERBS[verb.removesuffix("s")] + ("en" if plural else "e")


@pytest.mark.parametrize("lengths", [translation.TRAIN_LENGTHS, translation.OOD_LENGTHS], ids=str)
def test_translations_equal_those_of_a_parser(lengths):
    for source, target in sampled(translation, 500, lengths):
        words = list(source)
        assert parse_sentence(words) == target
        assert not words


def test_translation_of_one_sentence():
    words = ["the", "big", "king", "that", "the", "birds", "see", "hears", "these", "trees"]
    expected = "lo regno grando ke las avias viden estos arbos aude"
    assert " ".join(parse_sentence(words)) == expected
