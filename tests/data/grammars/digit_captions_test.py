"""Holds the descriptions of digits to what they claim and to the chances they are drawn with."""

import numpy as np

from jaxlabs.data.grammars import digit_captions
from jaxlabs.data.grammars.digit_captions import DIGITS, SAID, SLANTS, UNSAID, WEIGHTS, Claim


def read(words):
    """Finds what a description says by looking for its words, whatever the sentence."""
    parts = words.replace(",", "").split()
    found = [next(i for i, digit in enumerate(DIGITS) if digit in parts)]
    for levels in (SLANTS, WEIGHTS):
        said = [i for i, names in enumerate(levels) if set(names) & set(parts)]
        assert len(said) <= 1
        found.append(said[0] if said else None)
    return Claim(*found)


def test_every_wording_says_its_claim_and_no_two_are_the_same():
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


def test_drawn_descriptions_are_true_and_as_often_full_as_promised():
    generator = np.random.default_rng(0)
    truths = np.column_stack([generator.integers(high, size=4000) for high in (10, 3, 3)])
    captions, claims = digit_captions.draw(generator, truths)
    said = claims != UNSAID
    np.testing.assert_array_equal(claims[said], truths[said])
    assert said[:, 0].all()
    np.testing.assert_allclose(said[:, 1:].mean(axis=0), SAID, atol=0.03)
    assert np.corrcoef(said[:, 1], said[:, 2])[0, 1] < 0.05
    for caption, claim in zip(captions[:300], claims.tolist(), strict=False):
        assert read(caption) == Claim(*(None if part == UNSAID else part for part in claim))
    # Every wording of a claim comes, and about as often as any other.
    full = [caption for caption, row in zip(captions, said, strict=True) if row.all()]
    shares = [np.mean([words in full_one for full_one in full]) for words in ("the digit", ",")]
    np.testing.assert_allclose(shares, [1 / 3, 1], atol=0.04)
