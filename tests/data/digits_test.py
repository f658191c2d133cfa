"""Holds jaxlabs/data/digits.py to real digits with the attributes that it claims."""

import numpy as np
import pytest

from jaxlabs.data import digits

# One font, everything else in the middle of what matters.
PLAIN = {"slant": 0, "thickness": 3, "rotation": 0, "height": 20, "width": 1}
PLAIN |= {"shift_right": 0, "shift_down": 0}


def drawn(label, **attributes):
    values = {name: np.array([value], np.float32) for name, value in (PLAIN | attributes).items()}
    return digits.draw(np.array([label]), values | {"font": np.array([0])})[0] / 255


def moments(image):
    down, right = np.indices(image.shape) - (image.shape[0] - 1) / 2
    mean = np.array([(down * image).sum(), (right * image).sum()]) / image.sum()
    down, right = down - mean[0], right - mean[1]
    return mean, [(a * b * image).sum() / image.sum() for a, b in ((down, down), (down, right))]


@pytest.fixture(scope="module")
def sets():
    return digits.render(2_000), digits.render(1_000, stream=1)


def test_same_seed_gives_the_same_pictures_and_another_one_others(sets):
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
    assert np.bincount(attributes["font"]).min() > 2_000 / len(digits.FONT_NAMES) / 1.3
    assert all(values.shape == (2_000,) for values in attributes.values())


def test_ink_is_white_on_black_as_much_as_in_mnist_and_inside_the_frame(sets):
    images = sets[0][0]
    assert images.mean() / 255 == pytest.approx(0.13, abs=0.02)  # MNIST: 0.1307
    assert images.max() == 255
    frame = np.ones((28, 28), bool)
    frame[1:-1, 1:-1] = False
    assert images[:, frame].mean() < 1
    assert (images > 128).sum(axis=(1, 2, 3)).min() > 15


def test_linear_classifier_tells_them_apart_about_as_well_as_mnist(sets):
    # The best linear map to one-hot labels; on MNIST it gets about 86 % right.
    (images, labels, _), (test_images, test_labels, _) = sets
    ones = [np.ones((len(x), 1)) for x in (images, test_images)]
    x = np.hstack([images.reshape(len(images), -1) / 255, ones[0]])
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(785), x.T @ np.eye(10)[labels])
    scores = np.hstack([test_images.reshape(len(test_images), -1) / 255, ones[1]]) @ weights
    assert 0.85 < np.mean(scores.argmax(axis=1) == test_labels) < 0.97


def test_shift_moves_the_digit_right_and_down_by_as_many_pixels():
    middle = moments(drawn(3))[0]
    moved = moments(drawn(3, shift_right=1.5, shift_down=-1))[0]
    np.testing.assert_allclose(moved - middle, [-1, 1.5], atol=0.05)


def test_slant_leans_right_by_its_angle():
    # Of a sheared figure, the mixed moment grows by tan(angle) of the vertical one; down is up's
    # opposite, so that a right lean makes it negative.
    (upright, mixed), (_, leaning) = moments(drawn(1))[1], moments(drawn(1, slant=20))[1]
    assert leaning - mixed == pytest.approx(-np.tan(np.deg2rad(20)) * upright, rel=0.03)


def test_rotation_is_counter_clockwise():
    # The upright stroke of a 1 falls to the left: what is above moves left.
    assert moments(drawn(1, rotation=12))[1][1] > moments(drawn(1))[1][1] + 1


def test_height_and_width_are_those_of_the_ink():
    def extent(image, axis):
        return image.max(axis=axis).sum()

    # A soft outline reaches a little out of the digit's box, and so does a thicker stroke.
    for height in (16, 20):
        own = drawn(0, height=height)
        assert extent(own, 1) == pytest.approx(height, abs=1.2)
    ratio = extent(drawn(0, width=1.25), 0) / extent(drawn(0), 0)
    assert ratio == pytest.approx(1.25, abs=0.05)


@pytest.mark.parametrize("label", [0, 1, 7])
def test_thickness_is_what_ink_has_per_length_of_stroke(label):
    # Where a stroke of thickness w has length L its ink is w L; L stays when only w changes.
    thin, thick = (drawn(label, thickness=w).sum() for w in (2.0, 4.0))
    assert thick / thin == pytest.approx(2, rel=0.12)
