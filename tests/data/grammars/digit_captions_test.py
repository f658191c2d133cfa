"""Captions have their claims, and attributes are mentioned with the stated probability."""

import numpy as np

from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import (
    DIGITS,
    MENTION_PROBABILITY,
    SLANTS,
    UNSAID,
    WEIGHTS,
    Claim,
)


def read(words):
    """Returns the claims of a caption, found by its words."""
    parts = words.replace(",", "").split()
    found = [next(i for i, digit in enumerate(DIGITS) if digit in parts)]
    for levels in (SLANTS, WEIGHTS):
        mentioned = [i for i, names in enumerate(levels) if set(names) & set(parts)]
        assert len(mentioned) <= 1
        found.append(mentioned[0] if mentioned else None)
    return Claim(*found)


def test_wordings_have_their_claim_and_are_distinct():
    claims = [*digit_captions.full_claims(), Claim(8), Claim(1, slant=1), Claim(0, weight=2)]
    for claim in claims:
        assert {read(words) for words in digit_captions.wordings(claim)} == {claim}
    every = digit_captions.all_wordings()
    assert len(set(every)) == len(every) == 1200
    assert len(digit_captions.full_claims()) == 90


def test_plain_wordings_are_english():
    assert digit_captions.wordings(Claim(7, 2, 2))[0] == "a slanted seven, bold"
    assert digit_captions.wordings(Claim(8))[0] == "an eight"
    assert digit_captions.wordings(Claim(4, slant=1))[0] == "an upright four"
    assert digit_captions.wordings(Claim(8, weight=0))[0] == "a thin eight"


def test_sampled_captions_are_true_with_the_stated_mention_probability():
    generator = np.random.default_rng(0)
    truths = np.column_stack([generator.integers(high, size=4000) for high in (10, 3, 3)])
    captions, claims = digit_captions.sample(generator, truths)
    mentioned = claims != UNSAID
    np.testing.assert_array_equal(claims[mentioned], truths[mentioned])
    assert mentioned[:, 0].all()
    np.testing.assert_allclose(mentioned[:, 1:].mean(axis=0), MENTION_PROBABILITY, atol=0.03)
    assert np.corrcoef(mentioned[:, 1], mentioned[:, 2])[0, 1] < 0.05
    for caption, claim in zip(captions[:300], claims.tolist(), strict=False):
        assert read(caption) == Claim(*(None if part == UNSAID else part for part in claim))
    # All wordings of a claim are about equally frequent.
    full = [caption for caption, row in zip(captions, mentioned, strict=True) if row.all()]
    shares = [np.mean([words in full_one for full_one in full]) for words in ("the digit", ",")]
    np.testing.assert_allclose(shares, [1 / 3, 1], atol=0.04)
