"""Holds jaxlabs/data/images.py to its search order, its splits and its binary draw."""

import dataclasses
import hashlib

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import digits, images, mnist
from jaxlabs.data.images import LabeledImages, binarized, hold_out, load

pytestmark = pytest.mark.usefixtures("offline")
ACCEPTED = (
    "accepted are mnist, rendered_digits or the path to a folder of PNG or JPEG pictures of one "
    "size"
)


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    monkeypatch.setattr(images, "RENDERED_COUNTS", {"train": 40, "test": 20})


def pictures(count, side=2):
    values = np.arange(count * side * side).reshape(count, side, side, 1) % 256
    labels = np.arange(count, dtype=np.int32) % 10
    return LabeledImages(values.astype(np.uint8), labels, {"slant": np.arange(count)})


def dataset(train, test):
    return images.ImageDataset("made", train, test, digits.CLASSES, "nowhere", "0" * 64)


def test_published_files_are_taken_as_they_are(write_idx, tmp_path, monkeypatch):
    files, arrays = {}, {}
    for key, file in mnist.FILES.items():
        arrays[key] = np.arange(12).reshape(3, 2, 2) if file.axes == 3 else np.array([7, 0, 9])
        path = tmp_path / "mnist" / file.name
        write_idx(path, arrays[key])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[key] = dataclasses.replace(file, sha256=sha256)
    monkeypatch.setattr(mnist, "FILES", files)
    found = load("mnist", tmp_path)
    assert (found.name, found.source) == ("mnist", str(tmp_path / "mnist"))
    assert (found.comparable, found.notice, found.classes) == (True, None, tuple("0123456789"))
    np.testing.assert_array_equal(found.test.images[..., 0], arrays["test_images"])
    assert found.train.labels.tolist() == [7, 0, 9]
    assert found.train.labels.dtype == np.int32
    described = found.describe()
    assert (described["train"], described["shape"]) == (3, [2, 2, 1])


def test_stand_in_comes_last_and_says_so_in_one_line(tmp_path):
    found = load("mnist", tmp_path / "data")
    assert found.notice == (
        f"mnist is neither in {tmp_path / 'data/mnist'} nor prepared by tensorflow-datasets, and "
        "the host could not be reached: training on rendered_digits (digits drawn from 6 fonts of "
        "matplotlib) instead, whose figures are not comparable with the published ones"
    )
    assert found.sha256 == load("rendered_digits").sha256
    assert (found.name, found.comparable) == ("rendered_digits", False)
    assert not (tmp_path / "data").exists()
    notice = load("mnist", tmp_path, download=False).notice
    assert "and downloads are switched off: training on" in notice


def test_rendered_sets_are_apart_and_know_their_pictures():
    found = load("rendered_digits")
    assert (found.train.count, found.test.count) == (40, 20)
    assert found.train.images.shape == (40, 28, 28, 1)
    assert set(found.train.attributes) == {"font", *digits.RANGES}
    assert len(found.train.attributes["slant"]) == 40
    train = {image.tobytes() for image in found.train.images}
    assert not train & {image.tobytes() for image in found.test.images}


def test_folder_is_cut_once_and_always_in_the_same_way(tmp_path, write_picture):
    folder = tmp_path / "animals"
    written = {}
    for number in range(30):
        kind = ("cat", "dog", "owl")[number % 3]
        path = folder / kind / f"{number:02}.png"
        written[write_picture(path, 3, 4, channels=3, seed=number).tobytes()] = kind
    found = load(str(folder))
    assert (found.train.count, found.test.count) == (27, 3)
    assert (found.classes, found.name) == (("cat", "dog", "owl"), str(folder))
    assert (found.comparable, found.notice) == (False, None)
    for part in (found.train, found.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert written.pop(image.tobytes()) == found.classes[label]
    assert not written
    assert load(str(folder)).sha256 == found.sha256
    # In the order of their names, a class would be missing from the test set.
    assert len(set(found.test.labels.tolist())) > 1


def write_classes(folder, write_picture, counts):
    for kind, count in counts.items():
        for number in range(count):
            write_picture(folder / kind / f"{number:02}.png", 4, 4, seed=number)


@pytest.mark.parametrize(
    "counts", [{"a": 29, "b": 2, "c": 11}, {f"k{i:02}": 2 for i in range(12)}, {"a": 20}]
)
def test_every_class_is_trained_and_tested_on(tmp_path, write_picture, counts):
    write_classes(tmp_path, write_picture, counts)
    found = load(str(tmp_path))
    for number, count in enumerate(counts.values()):
        tested = int((found.test.labels == number).sum())
        assert tested == max(1, round(count / 10))
        assert (found.train.labels == number).sum() == count - tested


def test_a_class_of_one_image_is_refused_by_name(tmp_path, write_picture):
    write_classes(tmp_path, write_picture, {"a": 29, "b": 1, "c": 11, "d": 1})
    with pytest.raises(UserError) as caught:
        load(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: one image only in b, d; every sub-folder is a class, which needs one to train"
        " on and one to test on; without classes, put all images into one folder"
    )


def test_folder_without_classes_is_cut_as_ever(tmp_path, write_picture):
    order = [write_picture(tmp_path / f"{n:02}.png", 4, 4, seed=n) for n in range(30)]
    found = load(str(tmp_path))
    places = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(found.train.images, np.array(order)[places[:-3]])
    np.testing.assert_array_equal(found.test.images, np.array(order)[places[-3:]])


def test_folder_with_too_few_pictures_is_refused(tmp_path, write_picture):
    write_picture(tmp_path / "a.png", 2, 2)
    with pytest.raises(UserError, match=rf"^{tmp_path}: holds one picture; at least 20 PNG or"):
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
def test_name_that_is_nothing_is_refused(name, complaint):
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value) == f"--dataset: {complaint}"


def test_last_pictures_are_held_out_with_their_labels():
    whole = pictures(10)
    train, validation = hold_out(whole, 3)
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), whole.images)
    assert (train.count, validation.labels.tolist()) == (7, [7, 8, 9])
    assert validation.attributes["slant"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("count", [0, 10, -1])
def test_split_without_pictures_on_one_side_is_refused(count):
    with pytest.raises(UserError, match=rf"^--val_size: {count} is not accepted; .* 1 to 9,"):
        hold_out(pictures(10), count)


def test_binary_pixels_are_one_as_often_as_they_are_bright():
    # Every gray value 100 times 100 times: 0 is never and 255 always 1, which is exact.
    grays = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    part = LabeledImages(np.repeat(grays, 10_000, axis=0), np.zeros(10_000, np.int32))
    drawn = binarized(dataset(part, part)).train.images
    assert (drawn.dtype, set(np.unique(drawn))) == (np.uint8, {0, 1})
    share, wanted = drawn.mean(axis=0).ravel(), np.arange(256) / 255
    assert (share[0], share[255]) == (0, 1)
    # Standard errors of 254 independent shares: their squares are 1 in the mean.
    scores = (share - wanted)[1:-1] / np.sqrt(wanted * (1 - wanted) / 10_000)[1:-1]
    assert np.mean(scores**2) == pytest.approx(1, abs=5 * np.sqrt(2 / 254))
    assert abs(scores.mean()) < 5 / np.sqrt(254)


def test_binary_draw_is_named_and_fixed_and_differs_by_set_and_seed():
    gray = LabeledImages(np.full((50, 4, 4, 1), 128, np.uint8), np.arange(50, dtype=np.int32))
    one, again, other = (binarized(dataset(gray, gray), seed) for seed in (0, 0, 1))
    assert one.name == "made binarized by seed 0"
    assert one.sha256 == again.sha256
    np.testing.assert_array_equal(one.train.images, again.train.images)
    assert len({one.sha256, other.sha256, "0" * 64}) == 3
    assert 0.3 < np.mean(one.train.images != other.train.images) < 0.7
    assert 0.3 < np.mean(one.train.images != one.test.images) < 0.7
    assert one.test.labels.tolist() == list(range(50))


@pytest.mark.real_data
def test_mnist_and_its_binary_draw_are_the_same_everywhere(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip("needs real data: no mnist in JAXLABS_DATA_DIR")
    found = load("mnist", data_dir)
    assert (found.comparable, found.train.count, found.test.count) == (True, 60_000, 10_000)
    # Made once by `binarized(load("mnist"))`: figures of two machines must be about one draw.
    assert binarized(found).sha256.startswith("76881348ed672a37")
