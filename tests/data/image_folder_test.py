"""A folder of images that is not read into memory gives the data of one that is, to the bit."""

import shutil

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from jaxlabs.config import UserError
from jaxlabs.data import image_files, image_folder, image_stream, images, prepared_folder
from jaxlabs.data.batches import batch_at
from jaxlabs.data.image_data import ImageDataConfig, image_data, labeled_data
from jaxlabs.data.images import ImageFilesConfig

HEIGHT, WIDTH = 5, 4


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """46 images of two classes: gray ones, some with colors, one rotated by its EXIF data."""
    folder = tmp_path_factory.mktemp("images") / "mixed"
    rng = np.random.default_rng(0)
    for index in range(46):
        path = folder / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        color = index % 7 == 0
        size = (HEIGHT, WIDTH, 3) if color else (HEIGHT, WIDTH)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    rotated = Image.fromarray(rng.integers(0, 256, (WIDTH, HEIGHT), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated.save(folder / "cat" / "rotated.jpg", exif=exif)
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Passes of three images, whose random numbers come in many parts."""
    monkeypatch.setattr(image_stream, "CHUNK_BYTES", 3 * HEIGHT * WIDTH * 3)
    monkeypatch.setattr(image_folder, "RANDOM_BYTES", 64)


def load(folder, data_dir, limit):
    return images.load(str(folder), data_dir, files=ImageFilesConfig(memory_limit=limit))


def require_equal(streamed, in_memory):
    """The same data: batches, evaluation sets, metadata and baselines."""
    assert type(streamed.train).__name__ == "HostArrays"
    assert streamed.dataset == in_memory.dataset
    assert streamed.train.count == in_memory.train.count
    traced = jax.jit(lambda step: batch_at(in_memory.train, 3, step, 8))
    for step in (0, 1, 5, 6, 100):
        found, expected = streamed.train.batch_at(3, step, 8), jax.device_get(traced(step))
        chex.assert_trees_all_equal(found, expected)
        chex.assert_trees_all_equal_dtypes(found, expected)
    for name, expected in (in_memory.eval_sets | in_memory.final_eval_sets()).items():
        found = (streamed.eval_sets | streamed.final_eval_sets())[name].arrays
        assert isinstance(found["images"], np.ndarray)
        chex.assert_trees_all_equal(found, expected.arrays)
    assert streamed.baselines() == in_memory.baselines()


def test_data_of_a_streamed_folder_equal_those_in_memory(mixed, tmp_path):
    streamed, in_memory = load(mixed, tmp_path, 0), load(mixed, tmp_path, None)
    assert streamed.describe() == in_memory.describe()
    assert streamed.train.images.shape[1:] == (HEIGHT, WIDTH, 3)
    require_equal(labeled_data(streamed, 2), labeled_data(in_memory, 2))
    require_equal(labeled_data(streamed), labeled_data(in_memory))


@pytest.mark.parametrize(
    "settings",
    [
        {"binarization": "static", "binarization_seed": 5, "train_images": 30},
        {"binarization": "dynamic", "val_size": 9},
        {"binarization": "none"},
    ],
    ids=lambda settings: settings["binarization"],
)
def test_binarized_images_equal_those_in_memory(settings, mixed, tmp_path):
    config = ImageDataConfig(**settings)
    require_equal(
        image_data(load(mixed, tmp_path, 0), config, bernoulli=True),
        image_data(load(mixed, tmp_path, None), config, bernoulli=True),
    )


def test_gray_folder_has_one_channel(mixed, tmp_path, write_image):
    for index in range(20):
        write_image(tmp_path / "gray" / f"{index}.png", 3, 3, seed=index)
    streamed, in_memory = (load(tmp_path / "gray", tmp_path, limit) for limit in (0, None))
    assert streamed.describe() == in_memory.describe()
    assert streamed.train.images.shape[1:] == (3, 3, 1)


def test_memory_limit_is_in_bytes_of_decoded_images(mixed, tmp_path):
    size = 47 * HEIGHT * WIDTH * 3  # the first image has colors
    for limit, scanned in ((size - 1, True), (size, False)):
        assert (load(mixed, tmp_path, limit).scanned is not None) == scanned


def test_second_run_reads_no_image_before_the_first_batch(mixed, tmp_path, monkeypatch):
    config = ImageDataConfig()
    first = image_data(load(mixed, tmp_path, 0), config, bernoulli=False)
    read = []
    original = image_files.read
    monkeypatch.setattr(
        image_files, "read", lambda path, *size: read.append(path) or original(path, *size)
    )
    monkeypatch.setattr(prepared_folder, "locked", None)  # a read-only folder has no lock
    again = image_data(load(mixed, tmp_path, 0), config, bernoulli=False)
    assert len(read) == 1  # its size decides whether the folder fits
    chex.assert_trees_all_equal(*(data.train.batch_at(0, 0, 40) for data in (again, first)))
    assert len(read) == 1  # the bits are on the disk


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_bits_are_made_again(mixed, tmp_path, damage):
    config = ImageDataConfig()
    first = image_data(load(mixed, tmp_path, 0), config, bernoulli=True)
    expected = first.train.batch_at(0, 0, 40)
    (path,) = tmp_path.glob("prepared/mixed-*/*.bits")
    intact = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(intact[:-1])
    again = image_data(load(mixed, tmp_path, 0), config, bernoulli=True)
    assert (path.read_bytes(), again.dataset) == (intact, first.dataset)
    chex.assert_trees_all_equal(again.train.batch_at(0, 0, 40), expected)


def test_changed_folder_is_read_again_and_a_changed_image_is_refused(mixed, tmp_path):
    folder = shutil.copytree(mixed, tmp_path / "copy")
    before = load(folder, tmp_path, 0)
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "dog" / "new.png")
    assert load(folder, tmp_path, 0).sha256 != before.sha256
    Image.new("L", (WIDTH, HEIGHT + 1)).save(folder / "dog" / "1.png")
    with pytest.raises(UserError, match=r"1\.png.*4 x 6 pixels, not 4 x 5"):
        before.train.images[:]
    with pytest.raises(UserError, match=r"1\.png: 4 x 6 pixels, where 0\.png has 4 x 5"):
        load(folder, tmp_path, 0)


def test_evaluation_sets_are_bounded(mixed, tmp_path, monkeypatch):
    streamed = load(mixed, tmp_path, 0)
    for name, value in (("MAX_SAMPLE", 3), ("MAX_SAMPLE_BYTES", 3 * HEIGHT * WIDTH * 3)):
        with monkeypatch.context() as patch:
            patch.setattr(image_stream, name, value)
            for data in (labeled_data(streamed), image_data(streamed, ImageDataConfig(), False)):
                assert [examples.count for examples in data.eval_sets.values()] == [3, 3]
    assert image_stream.sample_size(load(mixed, tmp_path, None).train.images) > 3


def test_folder_of_the_data_sets_that_is_a_file_is_refused(mixed, tmp_path):
    (tmp_path / "prepared").write_text("")
    with pytest.raises(UserError, match=r"data_dir: .*cannot be used"):
        load(mixed, tmp_path, 0)
