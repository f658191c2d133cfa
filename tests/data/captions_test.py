"""Holds measured slant and thickness to digits drawn with known ones, and captions to pictures."""

import dataclasses

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import captions, digits, images
from jaxlabs.data.grammars.digit_captions import UNSAID
from jaxlabs.data.images import LabeledImages
from jaxlabs.data.tokenizers import PADDING, WordTokenizer


@pytest.fixture(scope="module")
def drawn():
    return digits.render(1500)


def pictures_of(drawn, **changes):
    train = LabeledImages(*drawn)
    found = images.ImageDataset("drawn", train, train.take(slice(100)), digits.CLASSES, "here", "0")
    return dataclasses.replace(found, **changes)


def test_measured_slant_and_thickness_follow_the_drawn_ones(drawn):
    pictures, labels, known = drawn
    lean = known["slant"] - known["rotation"]
    slant, thickness = captions.measured_slant(pictures), captions.measured_thickness(pictures)
    assert np.corrcoef(thickness, known["thickness"])[0, 1] > 0.9
    for digit in range(10):
        of_digit = labels == digit
        assert np.corrcoef(slant[of_digit], lean[of_digit])[0, 1] > 0.95


def test_a_band_has_its_own_slant_and_thickness():
    down, right = np.indices((40, 40)) - 19.5
    for degrees, width in ((0, 3), (20, 4), (-30, 6)):
        away = np.abs(right + np.tan(np.deg2rad(degrees)) * down) * np.cos(np.deg2rad(degrees))
        band = np.clip(0.5 + width / 2 - away, 0, 1) * (np.abs(down) < 16)
        picture = np.round(255 * band).astype(np.uint8)[None, :, :, None]
        assert captions.measured_slant(picture)[0] == pytest.approx(degrees, abs=2)
        assert captions.measured_thickness(picture)[0] == pytest.approx(width, rel=0.25)
    empty = np.zeros((1, 8, 8, 1), np.uint8)
    assert captions.measured_slant(empty) == captions.measured_thickness(empty) == 0


@pytest.mark.parametrize(
    "print_in",
    [
        lambda ink: 255 - ink,  # black on white
        lambda ink: 200 - ink // 2,  # dark on gray
        lambda ink: np.concatenate([255 - ink, 255 - ink // 2, 255 + 0 * ink], axis=-1),  # purple
        lambda ink: np.where(np.arange(len(ink))[:, None, None, None] % 2, ink, 255 - ink),
    ],
    ids=["black", "gray", "color", "both"],
)
def test_slant_and_thickness_do_not_depend_on_the_color_of_ink_and_ground(drawn, print_in):
    ink = drawn[0][:200]
    printed = print_in(ink.astype(int)).astype(np.uint8)
    for measure in (captions.measured_slant, captions.measured_thickness):
        np.testing.assert_allclose(measure(printed), measure(ink), atol=0.3)
        assert np.corrcoef(measure(printed), measure(ink))[0, 1] > 0.999


@pytest.mark.parametrize("known", [True, False])
def test_words_tell_thirds_of_each_digit(drawn, known):
    pictures = pictures_of(drawn if known else (*drawn[:2], {}))
    train, test = captions.describe(pictures)
    np.testing.assert_array_equal(train.truths[:, 0], drawn[1])
    for level in (1, 2):
        for digit in range(10):
            counts = np.bincount(train.truths[train.truths[:, 0] == digit, level], minlength=3)
            np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.02)
    np.testing.assert_array_equal(test.truths, train.truths[:100])  # one border for both
    assert (test.captions != train.captions[:100]).any()  # but draws of their own
    thickness, lean = drawn[2]["thickness"], drawn[2]["slant"] - drawn[2]["rotation"]
    for values, level in ((lean, 1), (thickness, 2)):
        means = [values[train.truths[:, level] == place].mean() for place in range(3)]
        assert (np.diff(means) > 0.3).all()
        for digit in range(10) if known else ():  # what was drawn is told without exception
            of = [values[(train.truths[:, [0, level]] == (digit, n)).all(axis=1)] for n in range(3)]
            assert of[0].max() <= of[1].min() <= of[1].max() <= of[2].min()


def test_data_hold_what_the_descriptions_say(drawn):
    data = captions.caption_data(pictures_of(drawn), context_length=9, evaluated=40)
    tokenizer = WordTokenizer.from_json(data.vocabulary)
    train, test = data.train.arrays, data.evaluations["test"].arrays
    assert train["tokens"].shape == (1500, 9)
    assert len(test["tokens"]) == len(data.evaluations["training_pairs"].arrays["tokens"]) == 40
    described, _ = captions.describe(pictures_of(drawn))
    for row, caption in zip(train["tokens"][:50], described.captions, strict=False):
        words = tokenizer.labels(row[row != PADDING])
        assert words == caption.replace(",", " ,").split()
    said = train["claims"] != UNSAID
    np.testing.assert_array_equal(train["claims"][said], train["truths"][said])
    assert data.vocabulary["shape"] == [28, 28, 1]
    assert data.dataset["attributes"] == "as drawn"
    again = captions.caption_data(pictures_of(drawn), context_length=9)
    np.testing.assert_array_equal(again.train.arrays["tokens"], train["tokens"])


def test_bad_input_is_refused(drawn):
    with pytest.raises(UserError, match=r"--context_length: .* words and marks; 1 to 3"):
        captions.caption_data(pictures_of(drawn), context_length=3)
    with pytest.raises(UserError, match=r"--dataset: drawn has the classes cat, dog; 0 to 9 are"):
        captions.describe(pictures_of(drawn, classes=("cat", "dog")))
    few = LabeledImages(*drawn[:2]).take(drawn[1] != 3)
    with pytest.raises(UserError, match="--dataset: drawn has no 3 to train on"):
        captions.describe(pictures_of(drawn, train=few))
    tokenizer = WordTokenizer.from_lines(["a seven"])
    with pytest.raises(UserError, match="--prompt: 'a cat' has words that are not known; known"):
        captions.encode(["a cat"], tokenizer, 8, "prompt")
    with pytest.raises(UserError, match="--prompt: '' has 0 words and marks; 1 to 8"):
        captions.encode([""], tokenizer, 8, "prompt")
