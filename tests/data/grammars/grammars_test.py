import collections

import numpy as np
import pytest

from jaxlabs.data.grammars import next_word, sentiment, tagging, translation

GRAMMARS = [next_word, sentiment, tagging, translation]


def drawn(grammar, count, lengths=None, seed=0):
    generator = np.random.default_rng(seed)
    return [grammar.draw(generator, lengths or grammar.LENGTHS) for _ in range(count)]


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.__name__.split(".")[-1])
def test_sentences_follow_from_the_seed_and_have_the_lengths_asked_for(grammar):
    assert drawn(grammar, 20) == drawn(grammar, 20)
    assert drawn(grammar, 20) != drawn(grammar, 20, seed=1)
    for lengths in (grammar.LENGTHS, grammar.LONGER):
        assert all(len(source) in lengths for source, _ in drawn(grammar, 100, lengths))
    assert grammar.LONGER[0] > grammar.LENGTHS[-1]


# Next word


def test_chances_of_the_next_word_add_up_to_one_in_every_state():
    reached, waiting = {next_word.State()}, [next_word.State()]
    while waiting:
        after = next_word.continuations(waiting.pop())
        assert not after or sum(p for _, p, _ in after) == pytest.approx(1)
        assert len({word for word, _, _ in after}) == len(after)  # the words tell the state
        new = {state for _, _, state in after} - reached
        reached |= new
        waiting += new
    assert len(reached) > 500


def test_chances_are_those_of_the_verb_that_agrees_across_distractors():
    chances = next_word.chances(["these", "dogs", "that", "every", "teacher"])
    assert chances["paints"] == pytest.approx(0.5 * 0.65)  # relative and phrases leave a half
    assert "paint" not in chances
    chances = next_word.chances(["these", "dogs", "near", "the", "old", "clock"])
    assert chances["run"] == pytest.approx(0.75 * 0.65)
    assert "hums" not in chances
    with pytest.raises(ValueError, match="'hums' cannot follow"):
        next_word.chances(["these", "dogs", "hums"])


def test_frequencies_of_next_words_are_their_chances():
    counts, expected = collections.Counter(), collections.Counter()
    for source, target in drawn(next_word, 4000, range(6, 7)):
        counts[target[0]] += 1
        expected.update(next_word.chances(source))
    for word, mean in expected.items():
        assert abs(counts[word] - mean) < 5 * max(mean, 1) ** 0.5, word


def test_optimum_of_next_words_is_that_of_a_hand_made_case():
    sources = [["every", "dog", "runs"], ["every", "dog", "runs"]]
    optimum = next_word.optimum(sources, [["."], ["and"]])
    surprise = [-np.log(0.4), -np.log(0.35)]
    assert optimum["bayes_accuracy"] == pytest.approx(0.4)
    assert optimum["optimal_accuracy"] == pytest.approx(0.5)
    assert optimum["optimal_loss"] == pytest.approx(np.mean(surprise))
    entropy = -sum(p * np.log(p) for p in (0.4, 0.35, 0.25))
    assert optimum["entropy"] == pytest.approx(entropy)


# Sentiment


def sense(words):
    """The label by the rules of the module's head, read anew."""
    text = " ".join(words)
    if " although " in text:
        text = text.partition(" although ")[0]
    elif text.startswith("although "):
        text = text.partition(" , ")[2]
    elif " but " in text:
        text = text.partition(" but ")[2]
    turns = 0
    frames = sorted(sentiment.FRAMES, key=len, reverse=True)
    while frame := next((frame for frame in frames if text.startswith(frame)), None):
        turns += sum(frame.count(word) for word in ("not", "nobody", "doubt"))
        text = text.removeprefix(frame).strip()
    predicate = text.removesuffix(" .").split()
    if "that" in predicate:  # an aside of three words or more comes to nothing
        predicate = predicate[predicate.index("that") + 1 :]
        predicate = predicate[next(i for i, w in enumerate(predicate) if w in WORDS) + 1 :]
    turns += any(word in ("not", "never", "hardly") for word in predicate)
    (word,) = [word for word in predicate if word in WORDS]
    return sentiment.LABELS[(word in sentiment.ADJECTIVES[True]) ^ (turns % 2)]


WORDS = {word for words in sentiment.ADJECTIVES.values() for word in words}


def test_labels_are_those_of_scope_and_double_negation():
    for lengths in (sentiment.LENGTHS, sentiment.LONGER):
        for source, target in drawn(sentiment, 500, lengths):
            assert sense(source) == target[0], " ".join(source)


# Tags


def test_a_name_may_be_of_every_kind_and_what_follows_it_a_part_of_it():
    tags = collections.defaultdict(set)
    for source, target in drawn(tagging, 3000):
        for word, tag in zip(source, target, strict=True):
            tags[word].add(tag)
    assert len(tags["jordan"]) == 6  # B and I of every kind
    assert {"O", "I-ORG"} <= tags["bank"]


def test_tags_are_well_formed():
    for source, target in drawn(tagging, 500, tagging.LONGER):
        assert len(source) == len(target)
        for before, tag in zip(["O", *target], target, strict=False):
            assert tag[0] != "I" or before[2:] == tag[2:]


# Translation


def parse_sentence(words):
    """Translates by recursive descent, apart from what `translation.draw` does."""
    subject, many = parse_noun(words)
    verb = parse_verb(words, many)
    found, _ = parse_noun(words)
    return [*subject, *found, verb]


def parse_noun(words):
    determiner = {"the": "l", "this": "est", "these": "est"}[words.pop(0)]
    adjective = translation.ADJECTIVES.get(words[0])
    if adjective:
        words.pop(0)
    noun = words.pop(0)
    many = noun.endswith("s")
    stem, gender = translation.NOUNS[noun.removesuffix("s")]
    ending = gender + "s" * many
    target = [determiner + ending, stem + ending] + ([adjective + ending] if adjective else [])
    if words and words[0] == "that":
        words.pop(0)
        if words[0] in ("the", "this", "these"):
            inner, inner_many = parse_noun(words)
            target += ["ke", *inner, parse_verb(words, inner_many)]
        else:
            verb = parse_verb(words, many)
            target += ["ke", *parse_noun(words)[0], verb]
    return target, many


def parse_verb(words, many):
    verb = words.pop(0)
    assert verb.endswith("s") != many  # English agrees too
    return translation.VERBS[verb.removesuffix("s")] + ("en" if many else "e")


@pytest.mark.parametrize("lengths", [translation.LENGTHS, translation.LONGER], ids=str)
def test_translations_are_those_of_a_parser(lengths):
    for source, target in drawn(translation, 500, lengths):
        words = list(source)
        assert parse_sentence(words) == target
        assert not words


def test_translation_of_a_sentence_by_hand():
    words = ["the", "big", "king", "that", "the", "birds", "see", "hears", "these", "trees"]
    expected = "lo regno grando ke las avias viden estos arbos aude"
    assert " ".join(parse_sentence(words)) == expected
