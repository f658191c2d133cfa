"""Dead leaves have the statistics of natural images."""

import numpy as np
import pytest

from jaxlabs.data import dead_leaves, whitening


@pytest.fixture(scope="module")
def images():
    return dead_leaves.sample(3, 256)


def test_images_depend_on_the_seed_only(images):
    np.testing.assert_array_equal(dead_leaves.sample(1, 256), images[:1])
    assert np.abs(dead_leaves.sample(1, 256, seed=1) - images[0]).mean() > 0.1
    assert np.abs(images[0] - images[1]).mean() > 0.1


def test_amplitude_falls_as_one_over_f(images):
    frequency, amplitude = whitening.radial_spectrum(images)
    rings = (frequency >= 6) & (frequency <= 64)
    slope = np.polyfit(np.log(frequency[rings]), np.log(amplitude[rings]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)


def test_leaves_cover_the_image_uniformly(images):
    assert (images.shape, images.min() >= 0, images.max() <= 1) == ((3, 256, 256), True, True)
    # Gray values are uniform; the background, exactly 0.5, is almost completely covered.
    assert images.mean() == pytest.approx(0.5, abs=0.06)
    assert images.std() == pytest.approx(np.sqrt(1 / 12), rel=0.2)
    bare = images == dead_leaves.BACKGROUND
    assert 0 < bare.mean() < 2 * np.exp(-dead_leaves.COVERAGE)
    border = np.ones((256, 256), bool)
    border[16:-16, 16:-16] = False
    assert bare[:, border].mean() < 2 * np.exp(-dead_leaves.COVERAGE)


def one_leaf(**attributes):
    middle = {"down": 30.0, "right": 40.0, "radius": 9.0, "ratio": 1.0, "gray": 0.0}
    middle |= {"cosine": 1.0, "sine": 0.0, "is_disc": True}
    leaf = {name: np.array([value]) for name, value in (middle | attributes).items()}
    leaves = dead_leaves.Leaves(**leaf)
    cells, which = dead_leaves._covered(leaves, int(np.ceil(leaves.extent()[0])), 100)
    assert not which.any()
    covered = np.zeros(10_000, bool)
    covered[cells] = True
    return covered.reshape(100, 100)


def test_disc_covers_cells_within_its_radius():
    down, right = np.indices((100, 100)) + 0.5
    expected = np.hypot(down - 30, right - 40) < 9
    np.testing.assert_array_equal(one_leaf(), expected)


def test_rectangle_is_rotated_and_has_the_area_of_the_disc():
    angle = np.deg2rad(30)
    rotation = {"cosine": np.cos(angle), "sine": np.sin(angle), "is_disc": False}
    covered = one_leaf(ratio=2.0, **rotation)
    assert covered.sum() == pytest.approx(np.pi * 81, rel=0.03)
    down, right = np.nonzero(covered)
    spread = np.cov(right, down)
    # Its long side points 30 degrees down from the right, four times as long as the short one.
    lengths, axes = np.linalg.eigh(spread)
    assert lengths[1] / lengths[0] == pytest.approx(16, rel=0.1)
    assert axes[1, 1] / axes[0, 1] == pytest.approx(np.tan(angle), rel=0.05)


@pytest.mark.parametrize("down", [-3.0, 2.0, 99.0])
def test_leaf_is_clipped_at_the_border(down):
    points = np.indices((100, 100)) + 0.5
    expected = np.hypot(points[0] - down, points[1] - 40) < 9
    np.testing.assert_array_equal(one_leaf(down=down), expected)


def test_corners_have_the_coverage_of_the_center(monkeypatch):
    monkeypatch.setattr(dead_leaves, "MIN_RADIUS", 3.0)
    monkeypatch.setattr(dead_leaves, "MAX_RADIUS", 3.5)
    bare = dead_leaves.sample(100, 32) == dead_leaves.BACKGROUND
    # With centers only inside, a quarter of the leaves would reach a corner: one in six bare.
    assert bare[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean() < 0.04
    assert bare[:, 16, 16].mean() < 0.04


def test_later_leaf_is_on_top(monkeypatch):
    def scatter(side, generator):
        sizes, grays = np.array([40.0, 5, 7, 7]), np.array([0.2, 0.4, 0.6, 0.8])
        ones = np.ones(4)
        disc = np.ones(4, bool)
        return dead_leaves.Leaves(16 * ones, 16 * ones, sizes, ones, 0 * ones, ones, disc, grays)

    monkeypatch.setattr(dead_leaves, "_scatter", scatter)
    image = dead_leaves.sample(1, 16)[0]
    # The last disc covers a smaller disc and one of equal size, but not the larger one.
    assert (image[8, 8], image[0, 0]) == (0.8, 0.2)
    assert set(np.round(np.unique(image), 3)) <= {0.2, 0.35, 0.5, 0.65, 0.8}
