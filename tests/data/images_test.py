"""Image data sets: search order, splits and static binarization."""

import dataclasses
import hashlib

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import digits, images, mnist
from jaxlabs.data.images import LabeledImages, binarize, hold_out, load

pytestmark = pytest.mark.usefixtures("offline")
ACCEPTED = (
    "accepted are mnist, rendered_digits or the path to a folder of PNG or JPEG images of one size"
)


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    monkeypatch.setattr(images, "RENDERED_COUNTS", {"train": 40, "test": 20})


def images_of(count, side=2):
    values = np.arange(count * side * side).reshape(count, side, side, 1) % 256
    labels = np.arange(count, dtype=np.int32) % 10
    return LabeledImages(values.astype(np.uint8), labels, {"slant": np.arange(count)})


def dataset(train, test):
    return images.ImageDataset.of(train, test, digits.CLASSES, name="made", source="nowhere")


def test_published_files_are_loaded_unchanged(write_idx, tmp_path, monkeypatch):
    files, arrays = {}, {}
    for key, file in mnist.FILES.items():
        arrays[key] = np.arange(12).reshape(3, 2, 2) if file.ndim == 3 else np.array([7, 0, 9])
        path = tmp_path / "mnist" / file.name
        write_idx(path, arrays[key])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[key] = dataclasses.replace(file, sha256=sha256)
    monkeypatch.setattr(mnist, "FILES", files)
    found = load("mnist", tmp_path)
    assert (found.name, found.source) == ("mnist", str(tmp_path / "mnist"))
    assert (found.comparable, found.warning, found.classes) == (True, None, tuple("0123456789"))
    np.testing.assert_array_equal(found.test.images[..., 0], arrays["test_images"])
    assert found.train.labels.tolist() == [7, 0, 9]
    assert found.train.labels.dtype == np.int32
    described = found.describe()
    assert (described["train"], described["shape"]) == (3, [2, 2, 1])


def test_fallback_is_last_and_warns_in_one_line(tmp_path):
    found = load("mnist", tmp_path / "data")
    assert found.warning == (
        f"mnist is neither in {tmp_path / 'data/mnist'} nor prepared by tensorflow-datasets, and "
        "the host could not be reached: training on rendered_digits (digits rendered from 6 fonts "
        "of matplotlib) instead, whose metrics are not comparable with published results"
    )
    assert found.sha256 == load("rendered_digits").sha256
    assert (found.name, found.comparable) == ("rendered_digits", False)
    assert not (tmp_path / "data").exists()
    warning = load("mnist", tmp_path, download=False).warning
    assert "and downloads are switched off: training on" in warning


def test_rendered_sets_are_disjoint_and_have_attributes():
    found = load("rendered_digits")
    assert (found.train.count, found.test.count) == (40, 20)
    assert found.train.images.shape == (40, 28, 28, 1)
    assert set(found.train.attributes) == {"font", *digits.RANGES}
    assert len(found.train.attributes["slant"]) == 40
    train = {image.tobytes() for image in found.train.images}
    assert not train & {image.tobytes() for image in found.test.images}


def test_folder_split_is_deterministic(tmp_path, write_image):
    folder = tmp_path / "animals"
    written = {}
    for number in range(30):
        kind = ("cat", "dog", "owl")[number % 3]
        path = folder / kind / f"{number:02}.png"
        written[write_image(path, 3, 4, channels=3, seed=number).tobytes()] = kind
    found = load(str(folder))
    assert (found.train.count, found.test.count) == (27, 3)
    assert (found.classes, found.name) == (("cat", "dog", "owl"), str(folder))
    assert (found.comparable, found.warning) == (False, None)
    for part in (found.train, found.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert written.pop(image.tobytes()) == found.classes[label]
    assert not written
    assert load(str(folder)).sha256 == found.sha256
    # Without shuffling, a class would be missing from the test set.
    assert len(set(found.test.labels.tolist())) > 1


def write_classes(folder, write_image, counts):
    for kind, count in counts.items():
        for number in range(count):
            write_image(folder / kind / f"{number:02}.png", 4, 4, seed=number)


@pytest.mark.parametrize(
    "counts", [{"a": 29, "b": 2, "c": 11}, {f"k{i:02}": 2 for i in range(12)}, {"a": 20}]
)
def test_every_class_has_training_and_test_images(tmp_path, write_image, counts):
    write_classes(tmp_path, write_image, counts)
    found = load(str(tmp_path))
    for number, count in enumerate(counts.values()):
        tested = int((found.test.labels == number).sum())
        assert tested == max(1, round(count / 10))
        assert (found.train.labels == number).sum() == count - tested


def test_class_of_one_image_is_an_error(tmp_path, write_image):
    write_classes(tmp_path, write_image, {"a": 29, "b": 1, "c": 11, "d": 1})
    with pytest.raises(UserError) as caught:
        load(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: one image only in b, d; every sub-folder is a class, which needs a training"
        " and a test image; without classes, put all images into one folder"
    )


def test_split_of_a_folder_without_classes(tmp_path, write_image):
    written = [write_image(tmp_path / f"{n:02}.png", 4, 4, seed=n) for n in range(30)]
    found = load(str(tmp_path))
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(found.train.images, np.array(written)[order[:-3]])
    np.testing.assert_array_equal(found.test.images, np.array(written)[order[-3:]])


def test_folder_with_too_few_images_is_an_error(tmp_path, write_image):
    write_image(tmp_path / "a.png", 2, 2)
    with pytest.raises(UserError, match=rf"^{tmp_path}: holds one image; at least 20 PNG or"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("minst", f"'minst' is no data set and no folder; {ACCEPTED}; did you mean 'mnist'?"),
        ("", f"'' is no data set and no folder; {ACCEPTED}"),
        ("x" * 300, f"'{'x' * 300}' is no data set and no folder; {ACCEPTED}"),
        (__file__, f"'{__file__}' is a file; {ACCEPTED}"),
    ],
)
def test_unknown_name_is_an_error(name, complaint):
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value) == f"dataset: {complaint}"


def test_last_images_are_held_out_with_their_labels():
    whole = images_of(10)
    train, validation = hold_out(whole, 3)
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), whole.images)
    assert (train.count, validation.labels.tolist()) == (7, [7, 8, 9])
    assert validation.attributes["slant"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("count", [0, 10, -1])
def test_empty_split_is_an_error(count):
    with pytest.raises(UserError, match=rf"^val_size: {count} is not accepted; .* 1 to 9,"):
        hold_out(images_of(10), count)


def test_binary_pixels_have_the_gray_value_as_probability():
    # Every gray value 10,000 times: 0 is never 1 and 255 is always 1.
    grays = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    part = LabeledImages(np.repeat(grays, 10_000, axis=0), np.zeros(10_000, np.int32))
    sampled = binarize(dataset(part, part)).train.images
    assert (sampled.dtype, set(np.unique(sampled))) == (np.uint8, {0, 1})
    share, expected = sampled.mean(axis=0).ravel(), np.arange(256) / 255
    assert (share[0], share[255]) == (0, 1)
    # z-scores of 254 independent shares: the mean square is 1.
    scores = (share - expected)[1:-1] / np.sqrt(expected * (1 - expected) / 10_000)[1:-1]
    assert np.mean(scores**2) == pytest.approx(1, abs=5 * np.sqrt(2 / 254))
    assert abs(scores.mean()) < 5 / np.sqrt(254)


def test_static_binarization_depends_on_set_and_seed():
    gray = LabeledImages(np.full((50, 4, 4, 1), 128, np.uint8), np.arange(50, dtype=np.int32))
    one, again, other = (binarize(dataset(gray, gray), seed) for seed in (0, 0, 1))
    assert one.name == "made binarized by seed 0"
    assert one.sha256 == again.sha256
    np.testing.assert_array_equal(one.train.images, again.train.images)
    assert len({one.sha256, other.sha256, dataset(gray, gray).sha256}) == 3
    assert 0.3 < np.mean(one.train.images != other.train.images) < 0.7
    assert 0.3 < np.mean(one.train.images != one.test.images) < 0.7
    assert one.test.labels.tolist() == list(range(50))


@pytest.mark.real_data
def test_mnist_and_its_binarization_have_fixed_hashes(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip("needs real data: no mnist in JAXLABS_DATA_DIR")
    found = load("mnist", data_dir)
    assert (found.comparable, found.train.count, found.test.count) == (True, 60_000, 10_000)
    # Hash of `binarize(load("mnist"))`: the binarization must not depend on the machine.
    assert binarize(found).sha256.startswith("76881348ed672a37")
