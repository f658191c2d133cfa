"""Measured slant and thickness match those of rendered digits; captions match images."""

import dataclasses

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import captions, digits, images
from jaxlabs.data.grammars.digit_captions import NOT_MENTIONED
from jaxlabs.data.images import LabeledImages
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.data.vocab import PADDING


@pytest.fixture(scope="module")
def rendered():
    return digits.render(1500)


def dataset_of(rendered, **changes):
    train = LabeledImages(*rendered)
    test, origin = train.take(slice(100)), {"name": "rendered", "source": "here"}
    found = images.ImageDataset.of(train, test, digits.CLASSES, **origin)
    return dataclasses.replace(found, **changes)


def test_measured_slant_and_thickness_correlate_with_the_attributes(rendered):
    images_u8, labels, known = rendered
    visible_slant = known["slant"] - known["rotation"]
    slant, thickness = captions.measure_slant(images_u8), captions.measure_thickness(images_u8)
    assert np.corrcoef(thickness, known["thickness"])[0, 1] > 0.9
    for digit in range(10):
        of_digit = labels == digit
        assert np.corrcoef(slant[of_digit], visible_slant[of_digit])[0, 1] > 0.95


def test_slant_and_thickness_of_a_band():
    down, right = np.indices((40, 40)) - 19.5
    for degrees, width in ((0, 3), (20, 4), (-30, 6)):
        away = np.abs(right + np.tan(np.deg2rad(degrees)) * down) * np.cos(np.deg2rad(degrees))
        band = np.clip(0.5 + width / 2 - away, 0, 1) * (np.abs(down) < 16)
        image = np.round(255 * band).astype(np.uint8)[None, :, :, None]
        assert captions.measure_slant(image)[0] == pytest.approx(degrees, abs=2)
        assert captions.measure_thickness(image)[0] == pytest.approx(width, rel=0.25)
    empty = np.zeros((1, 8, 8, 1), np.uint8)
    assert captions.measure_slant(empty) == captions.measure_thickness(empty) == 0


@pytest.mark.parametrize(
    "recolor",
    [
        lambda ink: 255 - ink,  # black on white
        lambda ink: 200 - ink // 2,  # dark on gray
        lambda ink: np.concatenate([255 - ink, 255 - ink // 2, 255 + 0 * ink], axis=-1),  # purple
        lambda ink: np.where(np.arange(len(ink))[:, None, None, None] % 2, ink, 255 - ink),
    ],
    ids=["black", "gray", "color", "both"],
)
def test_slant_and_thickness_do_not_depend_on_colors(rendered, recolor):
    ink = rendered[0][:200]
    recolored = recolor(ink.astype(int)).astype(np.uint8)
    for measure in (captions.measure_slant, captions.measure_thickness):
        np.testing.assert_allclose(measure(recolored), measure(ink), atol=0.3)
        assert np.corrcoef(measure(recolored), measure(ink))[0, 1] > 0.999


@pytest.mark.parametrize("known", [True, False])
def test_words_name_the_terciles_of_each_digit(rendered, known):
    dataset = dataset_of(rendered if known else (*rendered[:2], {}))
    train, test = captions.caption_images(dataset)
    np.testing.assert_array_equal(train.attribute_labels[:, 0], rendered[1])
    for level in (1, 2):
        for digit in range(10):
            counts = np.bincount(
                train.attribute_labels[train.attribute_labels[:, 0] == digit, level], minlength=3
            )
            np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.02)
    np.testing.assert_array_equal(
        test.attribute_labels, train.attribute_labels[:100]
    )  # the terciles of the training set
    assert (test.captions != train.captions[:100]).any()  # but other random captions
    thickness, visible_slant = (
        rendered[2]["thickness"],
        rendered[2]["slant"] - rendered[2]["rotation"],
    )
    for values, level in ((visible_slant, 1), (thickness, 2)):
        means = [values[train.attribute_labels[:, level] == n].mean() for n in range(3)]
        assert (np.diff(means) > 0.3).all()
        for digit in range(10) if known else ():  # terciles of known attributes are exact
            of = [
                values[(train.attribute_labels[:, [0, level]] == (digit, n)).all(axis=1)]
                for n in range(3)
            ]
            assert of[0].max() <= of[1].min() <= of[1].max() <= of[2].min()


def test_tokens_and_attributes_match_the_captions(rendered):
    data = captions.caption_data(dataset_of(rendered), context_length=9, num_eval_examples=40)
    tokenizer = WordTokenizer.from_json(data.data_spec)
    train, test = data.train.arrays, data.eval_sets["test"].arrays
    assert train["tokens"].shape == (1500, 9)
    assert len(test["tokens"]) == len(data.eval_sets["training_pairs"].arrays["tokens"]) == 40
    captioned, _ = captions.caption_images(dataset_of(rendered))
    for row, caption in zip(train["tokens"][:50], captioned.captions, strict=False):
        words = tokenizer.vocab.labels(row[row != PADDING])
        assert words == caption.replace(",", " ,").split()
    mentioned = train["mentioned_attributes"] != NOT_MENTIONED
    np.testing.assert_array_equal(
        train["mentioned_attributes"][mentioned], train["attribute_labels"][mentioned]
    )
    assert data.data_spec["shape"] == [28, 28, 1]
    assert data.dataset["attributes"] == "rendered"
    again = captions.caption_data(dataset_of(rendered), context_length=9)
    np.testing.assert_array_equal(again.train.arrays["tokens"], train["tokens"])


def test_bad_input_is_an_error(rendered):
    with pytest.raises(UserError, match=r"context_length: .* tokens; 1 to 3"):
        captions.caption_data(dataset_of(rendered), context_length=3)
    with pytest.raises(
        UserError, match=r"dataset: rendered has the classes cat, dog; the digits 0 to 9"
    ):
        captions.caption_images(dataset_of(rendered, classes=("cat", "dog")))
    few = LabeledImages(*rendered[:2]).take(rendered[1] != 3)
    with pytest.raises(UserError, match="dataset: rendered has no training image of 3"):
        captions.caption_images(dataset_of(rendered, train=few))
    tokenizer = WordTokenizer.from_lines(["a seven"])
    with pytest.raises(UserError, match="prompt: 'a cat' has unknown words; the vocabulary"):
        captions.encode(["a cat"], tokenizer, 8, "prompt")
    with pytest.raises(UserError, match="prompt: '' has 0 tokens; 1 to 8"):
        captions.encode([""], tokenizer, 8, "prompt")
