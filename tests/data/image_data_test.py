"""Image data: binarization, splits and baselines."""

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import images
from jaxlabs.data.image_data import ImageDataConfig, image_data
from jaxlabs.data.images import ImageDataset, LabeledImages


@pytest.fixture(scope="module")
def dataset():
    values = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 1), dtype=np.uint8)
    parts = (
        LabeledImages(part, np.arange(len(part), dtype=np.int32))
        for part in (values[:40], values[40:])
    )
    return ImageDataset.of(*parts, ("0",), name="noise", source="synthetic")


def arrays(dataset, **settings):
    data = image_data(dataset, ImageDataConfig(**settings), bernoulli=True)
    return data, data.train.arrays["images"], data.eval_sets[data.monitor].arrays["images"]


def test_static_binarization_has_the_seed(dataset):
    data, train, test = arrays(dataset, binarization_seed=3)
    expected = images.binarize(dataset, 3)
    np.testing.assert_array_equal(train, expected.train.images * 255)
    np.testing.assert_array_equal(test, expected.test.images * 255)
    assert data.dataset["name"] == "noise binarized by seed 3"


def test_dynamic_binarization_has_gray_training_and_static_evaluation_images(dataset):
    data, train, test = arrays(dataset, binarization="dynamic")
    static = images.binarize(dataset, 0)
    np.testing.assert_array_equal(train, dataset.train.images)
    np.testing.assert_array_equal(test, static.test.images * 255)
    seen = data.eval_sets["training_images"].arrays["images"]
    np.testing.assert_array_equal(seen, static.train.images[:10] * 255)
    assert data.dataset["name"].startswith("noise binarized at every step")


def test_held_out_images_are_not_trained_on(dataset):
    data, train, held_out = arrays(dataset, binarization="none", val_size=10, train_images=25)
    assert data.monitor == "held_out"
    np.testing.assert_array_equal(train, dataset.train.images[:25])
    np.testing.assert_array_equal(held_out, dataset.train.images[30:])
    with pytest.raises(UserError, match=r"train_images: 31 is not accepted; noise has 30"):
        arrays(dataset, val_size=10, train_images=31)


def test_bernoulli_baselines_are_entropies(dataset):
    same = ImageDataset.of(dataset.train, dataset.train, (), name="same", source="synthetic")
    data, train, _ = arrays(same, binarization="none")
    mean = train.reshape(40, -1).mean(axis=0) / 255
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()
    baselines = data.baselines()
    np.testing.assert_allclose(baselines["independent Bernoulli"], entropy, rtol=1e-6)
    np.testing.assert_allclose(baselines["uniform Bernoulli"], 30 * np.log(2))
