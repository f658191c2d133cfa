"""Natural images: search order, file formats, and the patches of the exercise."""

import numpy as np
import pytest
import scipy.sparse
from scipy.io import savemat

from jaxlabs.config import UserError
from jaxlabs.data import natural_images, whitening
from jaxlabs.data.natural_images import (
    load,
    normalize_patches,
    random_patches,
    whiten_images,
)


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    monkeypatch.setattr(natural_images, "LEAVES_SIDE", 32)


def test_images_of_the_data_folder_are_loaded_with_a_warning(tmp_path, write_image):
    folder = tmp_path / "natural_images"
    written = [write_image(folder / f"photo_{n}.png", 16, 16, seed=n)[..., 0] for n in range(3)]
    found = load("natural_images", tmp_path)
    np.testing.assert_array_equal(found.images, np.stack(written) / 255)
    assert (found.name, found.whitened, found.comparable) == ("natural_images", False, False)
    assert found.warning == (
        f"natural_images: the images in {folder} are not the ten whitened images of Olshausen and "
        "Field, which published results are on"
    )
    np.testing.assert_array_equal(whiten_images(found), whitening.whiten(found.images))
    assert found.describe()["shape"] == [16, 16]
    by_path = load(str(folder))
    assert (by_path.sha256, by_path.warning, by_path.name) == (found.sha256, None, str(folder))


def test_classic_file_is_first_and_already_whitened(tmp_path, write_image, monkeypatch):
    images = np.random.default_rng(0).normal(size=(10, 8, 8))
    monkeypatch.setattr(natural_images, "CLASSIC_SHAPE", images.shape)
    folder = tmp_path / "natural_images"
    write_image(folder / "photo.png", 16, 16)
    savemat(folder / "IMAGES.mat", {"IMAGES": np.moveaxis(images, 0, -1), "IMAGESr": np.ones(3)})
    found = load("natural_images", tmp_path)
    np.testing.assert_array_equal(found.images, images)
    assert (found.whitened, found.comparable, found.warning) == (True, True, None)
    assert whiten_images(found) is found.images


def test_raw_classic_file_is_whitened(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 8, 8))
    savemat(tmp_path / "raw.mat", {"IMAGESr": np.moveaxis(images, 0, -1)})
    found = load(str(tmp_path / "raw.mat"))
    assert not found.whitened
    np.testing.assert_array_equal(whiten_images(found), whitening.whiten(images))
    assert not found.comparable


def test_images_as_columns_are_reshaped_in_column_major_order(tmp_path):
    images = np.arange(2 * 16.0).reshape(2, 4, 4)
    columns = np.stack([image.ravel(order="F") for image in images], axis=-1)
    savemat(tmp_path / "a.mat", {"IMAGES": columns})
    np.testing.assert_array_equal(load(str(tmp_path / "a.mat")).images, images)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"X": np.ones(3), "Y": np.ones(2)}, "holds X, Y; IMAGES or IMAGESr, [height, width, "),
        ({"IMAGES": np.zeros((32, 32, 0))}, "IMAGES is float64 of shape [32, 32, 0]; IMAGES or"),
        ({"IMAGES": np.zeros((0, 32, 3))}, "IMAGES is float64 of shape [0, 32, 3]; IMAGES or"),
        ({"IMAGES": np.zeros((0, 5))}, "IMAGES is float64 of shape [0, 5]; IMAGES or"),
        ({"IMAGES": np.zeros((16, 0))}, "IMAGES is float64 of shape [16, 0]; IMAGES or"),
        ({"IMAGES": scipy.sparse.csc_array(np.eye(16))}, "IMAGES is float64 of shape [16, 16]; IM"),
        ({"IMAGES": np.ones((2, 2, 2), complex)}, "IMAGES is complex128 of shape [2, 2, 2]; IM"),
        ({"IMAGES": np.full((2, 2, 2), "a", object)}, "IMAGES is object of shape [2, 2, 2]; IM"),
        ({"IMAGES": np.full((2, 2, 2), 1e300)}, "IMAGES is float64 of shape [2, 2, 2]; IMAGES or"),
        ({"IMAGES": np.ones((3, 5))}, "IMAGES is float64 of shape [3, 5]; IMAGES or IMAGESr, "),
        ({"IMAGES": np.full((2, 2, 2), np.nan)}, "IMAGES is float64 of shape [2, 2, 2]; IMAGES or"),
        (b"no mat file", "cannot be read ("),
        (b"", "cannot be read ("),
    ],
    ids=[
        "other arrays",
        "no image",
        "no rows",
        "no pixels",
        "no columns",
        "sparse",
        "complex",
        "objects",
        "huge",
        "other shape",
        "nan",
        "text",
        "empty",
    ],
)
def test_mat_file_with_other_content_is_an_error(tmp_path, content, complaint):
    path = tmp_path / "a.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(caught.value)


def test_constant_images_are_an_error(tmp_path):
    savemat(tmp_path / "a.mat", {"IMAGESr": np.full((8, 8, 2), 7.0)})
    with pytest.raises(UserError, match=r"^dataset: all images are constant; images with"):
        whiten_images(load(str(tmp_path / "a.mat")))


def test_fallback_is_last_and_warns_in_one_line(tmp_path):
    found = load("natural_images", tmp_path)
    assert found.warning == (
        f"natural_images are not in {tmp_path / 'natural_images'} and have no permanent URL: "
        "training on dead_leaves (occluding discs and rectangles) instead, whose metrics are not "
        "comparable with published results"
    )
    assert (found.name, found.images.shape) == ("dead_leaves", (10, 32, 32))
    assert (found.sha256, found.whitened) == (load("dead_leaves").sha256, False)


@pytest.mark.parametrize("name", ["natural_image", "", "no/folder", "x" * 300, __file__])
def test_unknown_name_is_an_error(name):
    with pytest.raises(UserError) as caught:
        load(name)
    start = f"dataset: no data set, folder or .mat file {name!r}; accepted are natural_images, "
    assert str(caught.value).startswith(start)
    hint = "; did you mean 'natural_images'?"
    assert str(caught.value).endswith(hint) == (name == "natural_image")


def test_patches_have_uniformly_random_positions():
    num_images, height, width = 3, 12, 10
    # Each pixel encodes its image, row and column.
    images = np.arange(num_images * height * width, dtype=float).reshape(-1, height, width)
    patches = random_patches(images, 5_000, 4, seed=0)
    assert (patches.shape, patches.dtype) == ((5_000, 4, 4), np.float64)
    corner = patches[:, 0, 0]
    offsets = np.arange(4)[:, None] * width + np.arange(4)[None, :]
    np.testing.assert_array_equal(
        patches - corner[:, None, None], np.broadcast_to(offsets, (5_000, 4, 4))
    )
    positions = np.stack(np.unravel_index(corner.astype(int), images.shape), axis=-1)
    found, counts = np.unique(positions, axis=0, return_counts=True)
    # All 3 x 9 x 7 corners, each about 26 times.
    assert len(found) == 3 * 9 * 7
    assert (counts.min() > 5, counts.max() < 60) == (True, True)
    np.testing.assert_array_equal(random_patches(images, 5_000, 4, seed=0), patches)
    assert (random_patches(images, 5_000, 4, seed=1) != patches).any()


def test_patch_size_is_at_most_the_image_size():
    images = np.ones((1, 5, 6))
    assert random_patches(images, 2, 5, seed=0).shape == (2, 5, 5)
    with pytest.raises(UserError, match=r"^patch_size: 6 is not accepted; at most 5, "):
        random_patches(images, 2, 6, seed=0)


def test_normalization_of_patches_is_that_of_the_exercise():
    # A port of the MATLAB code of the exercise, with patches as columns.
    patches = np.random.default_rng(0).standard_t(3, size=(500, 4, 4)) + 5
    columns = patches.reshape(500, 16).T
    columns = columns - columns.mean(axis=0)
    deviations = 3 * columns.std()
    columns = np.maximum(np.minimum(columns, deviations), -deviations) / deviations
    expected = (columns + 1) * 0.4 + 0.1
    np.testing.assert_allclose(normalize_patches(patches).reshape(500, 16), expected.T, rtol=1e-12)
    assert (normalize_patches(patches).min(), normalize_patches(patches).max()) == (0.1, 0.9)
    # The mean is subtracted per patch, so that brightness does not matter.
    brighter = patches + np.arange(500)[:, None, None]
    np.testing.assert_allclose(normalize_patches(brighter), normalize_patches(patches), rtol=1e-9)


def test_constant_patches_are_an_error():
    with pytest.raises(UserError, match=r"^dataset: all patches are constant; images with"):
        normalize_patches(np.full((3, 2, 2), 7.0))


@pytest.mark.real_data
def test_natural_images_have_a_one_over_f_spectrum_that_whitening_flattens(data_dir):
    if not (data_dir / "natural_images").is_dir():
        pytest.skip("needs real data: no natural_images in JAXLABS_DATA_DIR")
    found = load("natural_images", data_dir)
    assert found.images.shape == (10, 512, 512)
    slopes = []
    for images in (found.images, whiten_images(found)):
        frequency, amplitude = whitening.radial_spectrum(images)
        rings = (frequency >= 8) & (frequency <= 100)
        slopes.append(np.polyfit(np.log(frequency[rings]), np.log(amplitude[rings]), 1)[0])
    np.testing.assert_allclose(slopes, [-1, 0], atol=0.1)
