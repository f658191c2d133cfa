"""Captions have their attributes, which are mentioned with the stated probability."""

import numpy as np

from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import (
    DIGITS,
    MENTION_PROBABILITY,
    NOT_MENTIONED,
    SLANTS,
    WEIGHTS,
    CaptionAttributes,
)


def read(words):
    """Returns the attributes of a caption, found by its words."""
    parts = words.replace(",", "").split()
    found = [next(i for i, digit in enumerate(DIGITS) if digit in parts)]
    for levels in (SLANTS, WEIGHTS):
        mentioned = [i for i, names in enumerate(levels) if set(names) & set(parts)]
        assert len(mentioned) <= 1
        found.append(mentioned[0] if mentioned else None)
    return CaptionAttributes(*found)


def test_paraphrases_have_their_attributes_and_are_distinct():
    partial = [CaptionAttributes(8), CaptionAttributes(1, slant=1), CaptionAttributes(0, weight=2)]
    for attributes in [*digit_captions.full_attributes(), *partial]:
        assert {read(words) for words in digit_captions.paraphrases(attributes)} == {attributes}
    every = digit_captions.all_captions()
    assert len(set(every)) == len(every) == 1200
    assert len(digit_captions.full_attributes()) == 90


def test_plainest_paraphrases_are_english():
    assert digit_captions.paraphrases(CaptionAttributes(7, 2, 2))[0] == "a slanted seven, bold"
    assert digit_captions.paraphrases(CaptionAttributes(8))[0] == "an eight"
    assert digit_captions.paraphrases(CaptionAttributes(4, slant=1))[0] == "an upright four"
    assert digit_captions.paraphrases(CaptionAttributes(8, weight=0))[0] == "a thin eight"


def test_sampled_captions_are_true_with_the_stated_mention_probability():
    generator = np.random.default_rng(0)
    labels = np.column_stack([generator.integers(high, size=4000) for high in (10, 3, 3)])
    captions, attributes = digit_captions.sample(generator, labels)
    mentioned = attributes != NOT_MENTIONED
    np.testing.assert_array_equal(attributes[mentioned], labels[mentioned])
    assert mentioned[:, 0].all()
    np.testing.assert_allclose(mentioned[:, 1:].mean(axis=0), MENTION_PROBABILITY, atol=0.03)
    assert np.corrcoef(mentioned[:, 1], mentioned[:, 2])[0, 1] < 0.05
    for caption, row in zip(captions[:300], attributes.tolist(), strict=False):
        expected = (None if part == NOT_MENTIONED else part for part in row)
        assert read(caption) == CaptionAttributes(*expected)
    # All paraphrases of the same attributes are about equally frequent.
    full = [caption for caption, row in zip(captions, mentioned, strict=True) if row.all()]
    shares = [np.mean([words in full_one for full_one in full]) for words in ("the digit", ",")]
    np.testing.assert_allclose(shares, [1 / 3, 1], atol=0.04)
