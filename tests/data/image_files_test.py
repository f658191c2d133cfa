"""Folders of images become arrays, or errors of one line."""

import numpy as np
import pytest
from PIL import Image

from jaxlabs.config import UserError
from jaxlabs.data.image_files import NEEDED, find


def complaint(folder, **arguments):
    with pytest.raises(UserError) as caught:
        find(folder, **({"at_least": 1} | arguments)).read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_gray_images_are_ordered_by_name(tmp_path, write_image):
    second = write_image(tmp_path / "b.PNG", 3, 5, seed=1)
    first = write_image(tmp_path / "a.png", 3, 5, seed=2)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._a.png").write_bytes(b"metadata of macOS")
    (tmp_path / "empty").mkdir()
    found = find(tmp_path, at_least=2)
    images = found.read()
    np.testing.assert_array_equal(images, [first, second])
    assert (images.shape, images.dtype) == ((2, 3, 5, 1), np.uint8)
    assert (found.labels.tolist(), found.classes) == ([0, 0], ())


def test_one_color_image_gives_all_three_channels(tmp_path, write_image):
    gray = write_image(tmp_path / "a.png", 4, 4)
    color = write_image(tmp_path / "b.png", 4, 4, channels=3)
    Image.fromarray(color).quantize(256).save(tmp_path / "c.png")
    images = find(tmp_path, at_least=1).read()
    np.testing.assert_array_equal(images[:2], [np.repeat(gray, 3, axis=2), color])
    assert np.abs(images[2].astype(int) - color).mean() < 20  # quantized to a palette
    gray_only = find(tmp_path, at_least=1).read(gray=True)
    assert gray_only.shape == (3, 4, 4, 1)
    luma = color @ [0.299, 0.587, 0.114]
    assert np.abs(gray_only[1, ..., 0] - luma).max() < 1


def test_jpeg_is_read(tmp_path):
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "a.JPG")
    assert (find(tmp_path, at_least=1).read() == 100).all()


def test_sub_folders_are_the_classes(tmp_path, write_image):
    for name in ("dog/1.png", "cat/1.png", "cat/2.png", ".hidden/1.png"):
        write_image(tmp_path / name, 2, 2)
    found = find(tmp_path, at_least=3)
    assert (found.labels.tolist(), found.classes) == ([0, 0, 1], ("cat", "dog"))
    assert found.labels.dtype == np.int32


def test_image_of_another_size_is_named_with_both_sizes(tmp_path, write_image):
    write_image(tmp_path / "a.png", 28, 30)
    write_image(tmp_path / "b.png", 28, 32)
    found = complaint(tmp_path)
    assert found == f"{tmp_path}/b.png: 32 x 28 pixels, where a.png has 30 x 28; {NEEDED}"


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_unreadable_image_is_named(tmp_path, write_image, content):
    path = tmp_path / "a.png"
    write_image(path, 20, 20)
    path.write_bytes(path.read_bytes()[:200] if content == "cut" else content)
    found = complaint(tmp_path)
    assert found.startswith(f"{path}: cannot be read (")
    assert found.endswith(NEEDED)


@pytest.mark.parametrize(
    ("mode", "named"), [("RGBA", "RGBA"), ("I;16", "I;16"), ("CMYK", "CMYK"), ("LA", "LA")]
)
def test_image_with_other_channels_is_an_error(tmp_path, mode, named):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 4)).save(path)
    assert complaint(tmp_path) == f"{path}: cannot be read (an image of mode {named}); {NEEDED}"


def test_transparent_palette_is_an_error(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "a.png", transparency=0)
    assert "(an image of mode P with transparency);" in complaint(tmp_path)


@pytest.mark.parametrize(("count", "held"), [(0, "no image"), (1, "one image"), (2, "2 images")])
def test_too_few_images_are_an_error(tmp_path, write_image, count, held):
    for number in range(count):
        write_image(tmp_path / f"{number}.png", 2, 2)
    found = complaint(tmp_path, at_least=3)
    assert found.startswith(f"{tmp_path}: holds {held}")
    assert f"at least 3 {NEEDED}" in found


def test_images_beside_and_inside_sub_folders_are_an_error(tmp_path, write_image):
    for name in ("a.png", "cat/b.png"):
        write_image(tmp_path / name, 2, 2)
    assert complaint(tmp_path).startswith(f"{tmp_path}: a.png is beside the sub-folder cat;")


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, ending, orientation):
    expected = np.full((16, 24), 40, np.uint8)
    expected[:8, :8] = 240  # one bright corner: all rotations and reflections differ
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(expected)
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{ending}", exif=exif, quality=100)
    upright.save(tmp_path / f"b.{ending}", quality=100)  # of the same size after the rotation
    first, second = find(tmp_path, at_least=2).read()[..., 0].astype(int)
    assert np.abs(first - expected).max() < 6
    assert np.abs(second - expected).max() < 6


@pytest.mark.parametrize(
    "exif", [b"nothing", b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff\xff\xff"]
)
def test_damaged_orientation_is_ignored(tmp_path, exif):
    Image.new("L", (8, 8), 100).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert (find(tmp_path, at_least=1).read() == 100).all()


@pytest.mark.parametrize(
    "side", [8, 12]
)  # Pillow warns above the limit and raises above twice the limit
def test_huge_image_is_an_error_of_one_line(tmp_path, side, monkeypatch):
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    found = complaint(tmp_path)
    assert found.startswith(f"{tmp_path}/a.png: cannot be read (Image size ({side**2} pixels)")


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TIFF"])
def test_decoders_of_other_formats_are_not_tried(tmp_path, kind):
    Image.new("L", (8, 8)).save(tmp_path / "a.png", kind)
    assert complaint(tmp_path).startswith(f"{tmp_path}/a.png: cannot be read (cannot identify")
