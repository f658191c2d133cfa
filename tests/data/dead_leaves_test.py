"""Holds jaxlabs/data/dead_leaves.py to the statistics of photographs."""

import numpy as np
import pytest

from jaxlabs.data import dead_leaves, whitening


@pytest.fixture(scope="module")
def pictures():
    return dead_leaves.draw(3, 256)


def test_same_seed_gives_the_same_pictures_and_another_one_others(pictures):
    np.testing.assert_array_equal(dead_leaves.draw(1, 256), pictures[:1])
    assert np.abs(dead_leaves.draw(1, 256, seed=1) - pictures[0]).mean() > 0.1
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.1


def test_amplitude_falls_as_one_over_f(pictures):
    frequency, amplitude = whitening.radial_spectrum(pictures)
    rings = (frequency >= 6) & (frequency <= 64)
    slope = np.polyfit(np.log(frequency[rings]), np.log(amplitude[rings]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)


def test_leaves_cover_all_of_the_picture_alike(pictures):
    assert (pictures.shape, pictures.min() >= 0, pictures.max() <= 1) == ((3, 256, 256), True, True)
    # Gray values are uniform; the ground between the leaves, 0.5 exactly, is all but hidden.
    assert pictures.mean() == pytest.approx(0.5, abs=0.06)
    assert pictures.std() == pytest.approx(np.sqrt(1 / 12), rel=0.2)
    bare = pictures == dead_leaves.GROUND
    assert 0 < bare.mean() < 2 * np.exp(-dead_leaves.LAYERS)
    border = np.ones((256, 256), bool)
    border[16:-16, 16:-16] = False
    assert bare[:, border].mean() < 2 * np.exp(-dead_leaves.LAYERS)


def one_leaf(**attributes):
    middle = {"down": 30.0, "right": 40.0, "radius": 9.0, "ratio": 1.0, "gray": 0.0}
    middle |= {"cosine": 1.0, "sine": 0.0, "is_disc": True}
    leaf = {name: np.array([value]) for name, value in (middle | attributes).items()}
    leaves = dead_leaves.Leaves(**leaf)
    cells, which = dead_leaves._covered(leaves, int(np.ceil(leaves.reach()[0])), 100)
    assert not which.any()
    covered = np.zeros(10_000, bool)
    covered[cells] = True
    return covered.reshape(100, 100)


def test_disc_covers_what_lies_within_its_radius():
    down, right = np.indices((100, 100)) + 0.5
    wanted = np.hypot(down - 30, right - 40) < 9
    np.testing.assert_array_equal(one_leaf(), wanted)


def test_rectangle_is_turned_and_as_large_as_the_disc():
    angle = np.deg2rad(30)
    turn = {"cosine": np.cos(angle), "sine": np.sin(angle), "is_disc": False}
    covered = one_leaf(ratio=2.0, **turn)
    assert covered.sum() == pytest.approx(np.pi * 81, rel=0.03)
    down, right = np.nonzero(covered)
    spread = np.cov(right, down)
    # Its long side points 30 degrees down from the right, four times as long as the short one.
    lengths, axes = np.linalg.eigh(spread)
    assert lengths[1] / lengths[0] == pytest.approx(16, rel=0.1)
    assert axes[1, 1] / axes[0, 1] == pytest.approx(np.tan(angle), rel=0.05)


@pytest.mark.parametrize("down", [-3.0, 2.0, 99.0])
def test_leaf_at_a_border_is_cut_there(down):
    places = np.indices((100, 100)) + 0.5
    wanted = np.hypot(places[0] - down, places[1] - 40) < 9
    np.testing.assert_array_equal(one_leaf(down=down), wanted)


def test_corners_are_covered_as_often_as_the_middle(monkeypatch):
    monkeypatch.setattr(dead_leaves, "MIN_RADIUS", 3.0)
    monkeypatch.setattr(dead_leaves, "MAX_RADIUS", 3.5)
    bare = dead_leaves.draw(100, 32) == dead_leaves.GROUND
    # If centers lay inside only, a quarter of the leaves would reach a corner: one in six bare.
    assert bare[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean() < 0.04
    assert bare[:, 16, 16].mean() < 0.04


def test_later_leaf_lies_on_top(monkeypatch):
    def scatter(side, generator):
        sizes, grays = np.array([40.0, 5, 7, 7]), np.array([0.2, 0.4, 0.6, 0.8])
        ones = np.ones(4)
        disc = np.ones(4, bool)
        return dead_leaves.Leaves(16 * ones, 16 * ones, sizes, ones, 0 * ones, ones, disc, grays)

    monkeypatch.setattr(dead_leaves, "_scatter", scatter)
    picture = dead_leaves.draw(1, 16)[0]
    # The last disc hides a smaller one and one of its size, and not the largest around it.
    assert (picture[8, 8], picture[0, 0]) == (0.8, 0.2)
    assert set(np.round(np.unique(picture), 3)) <= {0.2, 0.35, 0.5, 0.65, 0.8}
