"""MNIST: file format, search order and published hashes."""

import dataclasses
import gzip
import hashlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

from jaxlabs.config import UserError
from jaxlabs.data import mnist, sources

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 7), ("test", 3)):
        made[f"{part}_images"] = generator.integers(256, size=(count, 4, 4), dtype=np.uint8)
        made[f"{part}_labels"] = generator.integers(10, size=count, dtype=np.uint8)
    return made


@pytest.fixture
def small(arrays, write_idx, tmp_path, monkeypatch):
    """Replaces the published files by ten tiny images in tmp_path/mnist."""
    files = {}
    for key, file in mnist.FILES.items():
        path = tmp_path / "mnist" / file.name
        write_idx(path, arrays[key])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[key] = dataclasses.replace(file, sha256=sha256)
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "CONTENT_SHA256", mnist.content_sha256(arrays))
    return tmp_path / "mnist"


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def prepared(arrays, small, write_tfds, monkeypatch):
    """The tiny images in the format and another order of tensorflow-datasets; counts reads."""
    reads = []
    folder = small.parent / "tfds/mnist/3.0.1"
    rows = {
        split: zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)
        for split in ("train", "test")
    }
    splits = {
        split: [{"image": png(image), "label": int(label)} for image, label in pairs][::-1]
        for split, pairs in rows.items()
    }
    write_tfds(folder, splits)
    read = sources.read_tfds

    def counted(folder, splits, decode):
        reads.append(splits)
        return read(folder, splits, decode)

    monkeypatch.setattr(sources, "find_tfds", lambda name, data_dir: folder)
    monkeypatch.setattr(sources, "read_tfds", counted)
    for path in small.iterdir():
        path.unlink()
    return reads


def test_known_bytes_are_read_as_written(tmp_path):
    path = tmp_path / "two.gz"
    # Two images, one row, three columns, by the specification of the format.
    content = bytes.fromhex("00000803 00000002 00000001 00000003 0102ff 7f0004")
    path.write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(mnist.read_idx(path, 3), [[[1, 2, 255]], [[127, 0, 4]]])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "starts with nothing; 00 00 08 01 is needed, an IDX file of labels"),
        (bytes([0, 0, 8, 3, 0]), "starts with 00 00 08 03; 00 00 08 01 is needed, an IDX"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 1]), "holds 9 bytes but its header specifies 17; down"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 1]), "holds 10 bytes but its header specifies 9;"),
        (bytes([0, 0, 8, 1, 0]), "holds 5 bytes but its header specifies 8;"),
    ],
    ids=["empty", "images", "short", "long", "cut header"],
)
def test_file_of_another_type_or_length_is_an_error(tmp_path, content, complaint):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError) as caught:
        mnist.read_idx(path, 1)
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_damaged_compression_is_an_error(small, damage):
    path = small / mnist.FILES["train_images"].name
    content = path.read_bytes()
    flipped = content[:40] + bytes([content[40] ^ 255]) + content[41:]
    path.write_bytes({"cut": content[:50], "not gzip": b"<html>", "flipped": flipped}[damage])
    with pytest.raises(UserError, match=r"^[^\n]*train-images-idx3-ubyte.gz: cannot be read \("):
        mnist.find(small.parent, download=False)


def test_raw_files_are_first_and_complete(small, arrays, monkeypatch):
    def called(*_, **__):
        raise AssertionError("the raw files exist")

    monkeypatch.setattr(sources, "find_tfds", called)
    found, where = mnist.find(small.parent, download=True)
    assert where == small
    assert found.keys() == arrays.keys()
    for key in arrays:
        np.testing.assert_array_equal(found[key], arrays[key])


def test_file_that_is_not_the_published_one_is_an_error(small, write_idx):
    path = small / mnist.FILES["test_labels"].name
    write_idx(path, np.array([1, 2, 3]))
    with pytest.raises(UserError) as caught:
        mnist.find(small.parent, download=False)
    assert str(caught.value).startswith(f"{path}: not the published MNIST (its sha256 is ")


def test_tfds_images_are_read_once_and_cached(prepared, small, arrays):
    first, where = mnist.find(small.parent, download=False)
    assert where == small.parent / "tfds/mnist/3.0.1"
    np.testing.assert_array_equal(first["train_images"], arrays["train_images"][::-1])
    np.testing.assert_array_equal(first["test_labels"], arrays["test_labels"][::-1])
    again, _ = mnist.find(small.parent, download=False)
    assert prepared == [("train",), ("test",)]
    for key in arrays:
        np.testing.assert_array_equal(again[key], first[key])
        assert again[key].dtype == np.uint8
    left = {path.name for path in small.parent.iterdir()}
    assert left == {"mnist", "tfds", mnist.CACHE}


def test_damaged_or_wrong_cache_is_rebuilt(prepared, small, arrays):
    cache = small.parent / mnist.CACHE
    cache.write_bytes(b"PK, but not really")
    mnist.find(small.parent, download=False)
    assert len(prepared) == 2
    with np.load(cache) as kept:
        changed = {key: kept[key].copy() for key in kept}
    changed["train_images"][0, 0, 0] ^= 1
    np.savez(cache, **changed)
    found, _ = mnist.find(small.parent, download=False)
    assert len(prepared) == 4
    np.testing.assert_array_equal(found["train_images"], arrays["train_images"][::-1])


def test_cache_is_in_the_home_folder_if_the_data_folder_is_read_only(prepared, small, tmp_path):
    # An impossible folder replaces a read-only one, since tests may run as root.
    (tmp_path / "file").touch()
    mnist.find(tmp_path / "file", download=False)
    assert (tmp_path / "home/.cache/jaxlabs" / mnist.CACHE).exists()
    mnist.find(tmp_path / "file", download=False)
    assert len(prepared) == 2


def test_other_tfds_images_are_an_error(prepared, small, monkeypatch):
    monkeypatch.setattr(mnist, "CONTENT_SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"mnist/3.0.1: not the published MNIST; delete it"):
        mnist.find(small.parent, download=False)
    assert not (small.parent / mnist.CACHE).exists()


@pytest.mark.parametrize(
    "record",
    [
        {"label": 3},
        {"image": b"no image", "label": 3},
        {"image": png(np.zeros((4, 4), np.uint8)), "label": 300},
        {"image": png(np.zeros((5, 4), np.uint8)), "label": 3},
    ],
    ids=["missing", "no image", "label", "size"],
)
def test_malformed_tfds_records_are_an_error(prepared, small, write_tfds, record):
    good = {"image": png(np.zeros((4, 4), np.uint8)), "label": 3}
    write_tfds(small.parent / "tfds/mnist/3.0.1", {"train": [good, record]})
    with pytest.raises(
        UserError, match=r"^[^\n]*mnist/3.0.1: cannot be read \([^\n]*prepare it ag"
    ):
        mnist.find(small.parent, download=False)


def test_content_hash_ignores_only_the_order(arrays):
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    shuffled = {k: v[order] if "train" in k else v for k, v in arrays.items()}
    assert mnist.content_sha256(shuffled) == mnist.content_sha256(arrays)
    labels = dict(arrays, train_labels=arrays["train_labels"][order])
    assert mnist.content_sha256(labels) != mnist.content_sha256(arrays)


def test_only_missing_files_are_downloaded(small, arrays, monkeypatch):
    taken = {}
    for key in ("train_images", "test_labels"):
        path = small / mnist.FILES[key].name
        taken[path.name] = path.read_bytes()
        path.unlink()
    asked = []

    def fetch(url, sha256, path):
        asked.append((url, sha256))
        path.write_bytes(taken[path.name])

    monkeypatch.setattr(sources, "download", fetch)
    monkeypatch.setattr(sources, "find_tfds", lambda name, data_dir: None)
    found, _ = mnist.find(small.parent, download=True)
    np.testing.assert_array_equal(found["train_images"], arrays["train_images"])
    files = (mnist.FILES["train_images"], mnist.FILES["test_labels"])
    assert asked == [
        (f"https://ossci-datasets.s3.amazonaws.com/mnist/{file.name}", file.sha256)
        for file in files
    ]


@pytest.mark.real_data
def test_published_images_have_the_published_statistics(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip("needs real data: no mnist in JAXLABS_DATA_DIR")
    found, _ = mnist.find(data_dir, download=False)
    assert found["train_images"].shape == (60_000, 28, 28)
    assert found["test_images"].shape == (10_000, 28, 28)
    assert found["train_labels"][:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(found["test_labels"])[:3].tolist() == [980, 1135, 1032]
    # The mean of the usual standardization.
    assert found["train_images"].mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.content_sha256(found) == mnist.CONTENT_SHA256


@pytest.mark.slow
@pytest.mark.real_data
def test_tfds_images_are_the_published_ones_without_tensorflow(data_dir, tmp_path):
    if not (data_dir / "tfds" / "mnist").is_dir():
        pytest.skip("needs real data: no tfds/mnist in JAXLABS_DATA_DIR")
    (tmp_path / "tfds").symlink_to(data_dir / "tfds")
    found, where = mnist.find(tmp_path, download=False)
    assert where == tmp_path / "tfds/mnist/3.0.1"
    assert mnist.content_sha256(found) == mnist.CONTENT_SHA256
    assert "tensorflow" not in sys.modules
