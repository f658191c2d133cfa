"""Rendered digits have the sampled attributes and resemble MNIST."""

import numpy as np
import pytest

from jaxlabs.data import digits

# One font, all attributes central.
PLAIN = {"slant": 0, "thickness": 3, "rotation": 0, "height": 20, "width": 1}
PLAIN |= {"shift_right": 0, "shift_down": 0}


def rasterized(label, **attributes):
    values = {name: np.array([value], np.float32) for name, value in (PLAIN | attributes).items()}
    return digits.rasterize(np.array([label]), values | {"font": np.array([0])})[0] / 255


def moments(image):
    down, right = np.indices(image.shape) - (image.shape[0] - 1) / 2
    mean = np.array([(down * image).sum(), (right * image).sum()]) / image.sum()
    down, right = down - mean[0], right - mean[1]
    return mean, [(a * b * image).sum() / image.sum() for a, b in ((down, down), (down, right))]


@pytest.fixture(scope="module")
def sets():
    return digits.render(2_000), digits.render(1_000, stream=1)


def test_images_depend_on_the_seed_only(sets):
    images, labels, attributes = digits.render(2_000)
    np.testing.assert_array_equal(images, sets[0][0])
    np.testing.assert_array_equal(labels, sets[0][1])
    for name, values in attributes.items():
        np.testing.assert_array_equal(values, sets[0][2][name])
    for other in (digits.render(200, seed=1)[0], digits.render(200, stream=1)[0]):
        assert not (other == digits.render(200)[0]).all(axis=(1, 2, 3)).any()


def test_every_digit_comes_equally_often_in_random_order(sets):
    (images, labels, attributes), _ = sets
    assert (images.shape, images.dtype) == ((2_000, 28, 28, 1), np.uint8)
    assert np.bincount(labels).tolist() == [200] * 10
    assert abs(np.corrcoef(labels[1:], labels[:-1])[0, 1]) < 0.1
    assert np.bincount(attributes["font"]).min() > 2_000 / len(digits.FONTS) / 1.3
    assert all(values.shape == (2_000,) for values in attributes.values())


def test_ink_is_white_on_black_with_the_mean_of_mnist_and_inside_the_frame(sets):
    images = sets[0][0]
    assert images.mean() / 255 == pytest.approx(0.13, abs=0.02)  # MNIST: 0.1307
    assert images.max() == 255
    frame = np.ones((28, 28), bool)
    frame[1:-1, 1:-1] = False
    assert images[:, frame].mean() < 1
    assert (images > 128).sum(axis=(1, 2, 3)).min() > 15


def test_linear_classifier_is_about_as_accurate_as_on_mnist(sets):
    # Least squares to one-hot labels; its accuracy on MNIST is about 86 %.
    (images, labels, _), (test_images, test_labels, _) = sets
    ones = [np.ones((len(x), 1)) for x in (images, test_images)]
    x = np.hstack([images.reshape(len(images), -1) / 255, ones[0]])
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(785), x.T @ np.eye(10)[labels])
    scores = np.hstack([test_images.reshape(len(test_images), -1) / 255, ones[1]]) @ weights
    assert 0.85 < np.mean(scores.argmax(axis=1) == test_labels) < 0.97


def test_shift_is_in_pixels_right_and_down():
    middle = moments(rasterized(3))[0]
    moved = moments(rasterized(3, shift_right=1.5, shift_down=-1))[0]
    np.testing.assert_allclose(moved - middle, [-1, 1.5], atol=0.05)


def test_slant_is_an_angle_to_the_right():
    # Shear adds tan(angle) times the vertical moment to the mixed one, with a negative sign for a
    # slant to the right since the axis points down.
    (upright, mixed), (_, leaning) = moments(rasterized(1))[1], moments(rasterized(1, slant=20))[1]
    assert leaning - mixed == pytest.approx(-np.tan(np.deg2rad(20)) * upright, rel=0.03)


def test_rotation_is_counter_clockwise():
    # The vertical stroke of a 1 tilts to the left: its upper part moves left.
    assert moments(rasterized(1, rotation=12))[1][1] > moments(rasterized(1))[1][1] + 1


def test_height_and_width_are_those_of_the_ink():
    def extent(image, axis):
        return image.max(axis=axis).sum()

    # A soft outline and a thicker stroke extend slightly beyond the bounding box.
    for height in (16, 20):
        own = rasterized(0, height=height)
        assert extent(own, 1) == pytest.approx(height, abs=1.2)
    ratio = extent(rasterized(0, width=1.25), 0) / extent(rasterized(0), 0)
    assert ratio == pytest.approx(1.25, abs=0.05)


@pytest.mark.parametrize("label", [0, 1, 7])
def test_thickness_is_ink_per_length_of_stroke(label):
    # The ink of a stroke of thickness w and length L is w L, and L does not depend on w.
    thin, thick = (rasterized(label, thickness=w).sum() for w in (2.0, 4.0))
    assert thick / thin == pytest.approx(2, rel=0.12)
