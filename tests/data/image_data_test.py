"""Holds pictures as data to where they come from, and to their values."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.data.image_data import PictureConfig, picture_data
from jaxlabs.data.images import ImageDataset, LabeledImages


@pytest.fixture(scope="module")
def pictures():
    values = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 1), dtype=np.uint8)
    parts = (
        LabeledImages(part, np.arange(len(part), dtype=np.int32))
        for part in (values[:40], values[40:])
    )
    return ImageDataset("noise", *parts, ("0",), "made up", "0")


def arrays(pictures, **settings):
    data = picture_data(pictures, PictureConfig(**settings), coins=True)
    return data, data.train.arrays["images"], data.evaluations[data.headline].arrays["images"]


def test_static_pixels_are_those_of_the_named_draw(pictures):
    data, train, test = arrays(pictures, binarization_seed=3)
    expected = images.binarized(pictures, 3)
    np.testing.assert_array_equal(train, expected.train.images * 255)
    np.testing.assert_array_equal(test, expected.test.images * 255)
    assert data.dataset["name"] == "noise binarized by seed 3"


def test_redrawn_pixels_are_gray_to_train_on_and_static_to_evaluate_on(pictures):
    data, train, test = arrays(pictures, binarization="dynamic")
    static = images.binarized(pictures, 0)
    np.testing.assert_array_equal(train, pictures.train.images)
    np.testing.assert_array_equal(test, static.test.images * 255)
    seen = data.evaluations["training_images"].arrays["images"]
    np.testing.assert_array_equal(seen, static.train.images[:10] * 255)
    assert data.dataset["name"].startswith("noise redrawn at every step")


def test_held_out_pictures_are_not_trained_on(pictures):
    data, train, held_out = arrays(pictures, binarization="none", val_size=10, train_images=25)
    assert data.headline == "held_out"
    np.testing.assert_array_equal(train, pictures.train.images[:25])
    np.testing.assert_array_equal(held_out, pictures.train.images[30:])
    with pytest.raises(UserError, match=r"--train_images: 31 is not accepted; noise has 30"):
        arrays(pictures, val_size=10, train_images=31)


def test_independent_pixels_cost_their_entropy_where_train_is_test(pictures):
    same = ImageDataset("same", pictures.train, pictures.train, (), "made up", "0")
    data, train, _ = arrays(same, binarization="none")
    share = train.reshape(40, -1).mean(axis=0) / 255
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share)).sum()
    baselines = data.baselines()
    np.testing.assert_allclose(baselines["independent pixels"], entropy, rtol=1e-6)
    np.testing.assert_allclose(baselines["fair coins"], 30 * np.log(2))
