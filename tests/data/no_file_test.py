"""A FIFO, a device or a folder in place of a data file is an error of one line, at once."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxlabs.config import UserError
from jaxlabs.data import images, mnist, natural_images, sequence_data, sources, speeches, texts


def replaced(path, kind):
    path.unlink(missing_ok=True)
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


KINDS = ("a FIFO", "a folder", "a device")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def require_refused(kind, path, load, *arguments):
    with pytest.raises(UserError) as caught:
        load(*arguments)
    assert str(caught.value).startswith(f"{path}: not a file but {kind}; ")
    assert "\n" not in str(caught.value)


def image_folder(folder):
    folder.mkdir()
    for number in range(24):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def test_text(kind, tmp_path):
    if kind != "a folder":  # which has its own error
        path = replaced(tmp_path / "play.txt", kind)
        require_refused(kind, path, texts.load, str(path))
    path = replaced(tmp_path / "tiny_shakespeare.txt", kind)
    require_refused(kind, path, texts.load, "tiny_shakespeare", tmp_path)


def test_sentences(kind, tmp_path):
    path = replaced(tmp_path / "pairs.tsv", kind)
    sizes = sequence_data.SequenceDataConfig()
    require_refused(kind, path, sequence_data.load_splits, "translation", str(path), 0, sizes)


def test_speeches(kind, tmp_path):
    for file in speeches.FILES:
        (tmp_path / file).write_text("0\ta sentence\n")
    path = replaced(tmp_path / speeches.TRAIN_SENTENCES, kind)
    require_refused(kind, path, speeches.load, str(tmp_path))


def test_image_folder(kind, tmp_path):
    path = replaced(image_folder(tmp_path / "images") / "07.png", kind)
    require_refused(kind, path, images.load, str(path.parent))
    require_refused(kind, path, natural_images.load, str(path.parent))


def test_mat_file(kind, tmp_path):
    if kind != "a folder":  # which is a folder of images
        path = replaced(tmp_path / "IMAGES.mat", kind)
        require_refused(kind, path, natural_images.load, str(path))
    (tmp_path / "natural_images").mkdir()
    path = replaced(tmp_path / "natural_images" / "IMAGES.mat", kind)
    require_refused(kind, path, natural_images.load, "natural_images", tmp_path)


def test_files_of_mnist(kind, tmp_path):
    (tmp_path / "mnist").mkdir()
    for file in mnist.FILES.values():
        path = replaced(tmp_path / "mnist" / file.name, kind)
    first = path.parent / next(iter(mnist.FILES.values())).name
    require_refused(kind, first, images.load, "mnist", tmp_path)
    assert mnist._read_cache(replaced(tmp_path / mnist.CACHE, kind)) is None


def test_tfds_data_set(kind, tmp_path):
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    path = replaced(folder / "mnist-train.array_record-00000-of-00001", kind)
    require_refused(kind, path, sources.read_tfds, folder, ("train",), list)
    replaced(folder / "dataset_info.json", kind)
    assert sources.find_tfds("mnist", tmp_path) is None


def test_sub_folder_name_that_is_not_utf8_is_an_error(tmp_path):
    folder = image_folder(tmp_path / "images")
    below = Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    below.mkdir()
    for path in folder.glob("*.png"):
        path.rename(below / path.name)
    with pytest.raises(UserError, match=r"the name of the sub-folder '\\udcff' is not UTF-8$"):
        images.load(str(folder))
