"""Digits rendered from the fonts of matplotlib: labeled images without files or network.

Every glyph is stored as a signed distance field. An image samples that field through a random
affine map and thresholds it at a random distance, so that position, slant and stroke thickness are
known for every image and many images are rendered at once.
"""

import functools
from pathlib import Path

import numpy as np

from jaxlabs import load_matplotlib

CLASSES = tuple("0123456789")
FONTS = {
    "sans": "DejaVuSans",
    "serif": "DejaVuSerif",
    "times": "STIXGeneral",
    "roman": "cmr10",
    "helvetic": "cmss10",
    "typewriter": "cmtt10",
}
"""Name of a style -> file of a font of matplotlib, upright and without hairlines."""

SIDE = 28
# Ranges of the attributes, uniform and independent; chosen to look like handwritten digits.
RANGES = {
    "slant": (-18.0, 30.0),
    "thickness": (1.9, 4.3),
    "rotation": (-12.0, 12.0),
    "height": (16.0, 21.0),
    "width": (0.8, 1.25),
    "shift_right": (-1.5, 1.5),
    "shift_down": (-1.5, 1.5),
}
# Distance fields: cells per side, and cells of the height of a digit.
FIELD_SIDE, FIELD_HEIGHT = 128, 64
# Pixels over which ink fades at an outline, as in a scanned digit.
SOFTNESS = 1.4
CHUNK = 1000


def render(
    count: int, seed: int = 0, *, stream: int = 0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Renders digits in random order, with balanced classes.

    Equal seeds give equal images with the same version of matplotlib; a `stream` is the index of a
    set, such as the training or the test set, that shares the seed.

    Returns:
      `images [count, 28, 28, 1]` uint8, ink is 255 on 0; `labels [count]` int32; attributes by
      name, `[count]` each: "font", an index of FONTS; "slant" in degrees, positive to the
      right; "thickness" of the mean stroke in pixels; "rotation" in degrees, positive
      counter-clockwise; "height" in pixels and "width" as a factor, both before rotation;
      "shift_right" and "shift_down" of the center in pixels.
    """
    rng = np.random.default_rng([seed, stream])
    labels = rng.permutation(np.arange(count, dtype=np.int32) % len(CLASSES))
    attributes = {"font": rng.integers(len(FONTS), size=count, dtype=np.int32)}
    for name, (low, high) in RANGES.items():
        attributes[name] = rng.uniform(low, high, count).astype(np.float32)
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        chosen = {name: values[part] for name, values in attributes.items()}
        images[part, :, :, 0] = rasterize(labels[part], chosen)
    return images, labels, attributes


def rasterize(labels: np.ndarray, attributes: dict[str, np.ndarray]) -> np.ndarray:
    """Renders digits `labels [count]` with given attributes, see `render`.

    Returns:
      `[count, 28, 28]` uint8.
    """
    fields, strokes = _glyphs()
    glyph = attributes["font"] * len(CLASSES) + labels
    scale = FIELD_HEIGHT / attributes["height"]  # cells of the field per pixel
    to_field = _image_to_glyph(attributes) * scale[:, None, None]
    shift = np.stack([attributes["shift_right"], attributes["shift_down"]], axis=-1)
    points = _pixel_centers()[None] - shift[:, None, :]
    cells = points @ to_field.transpose(0, 2, 1) + (FIELD_SIDE - 1) / 2
    distance = _sample(fields, glyph, cells) / scale[:, None]
    # Outlines are offset so that the mean stroke has the sampled thickness.
    thicker = (attributes["thickness"] - strokes[glyph] / scale) / 2
    ink = np.clip(0.5 + (thicker[:, None] - distance) / SOFTNESS, 0, 1)
    return np.round(255 * ink).astype(np.uint8).reshape(-1, SIDE, SIDE)


def _image_to_glyph(attributes: dict[str, np.ndarray]) -> np.ndarray:
    """Returns `[count, 2, 2]`: offsets (right, down) in the image -> offsets in the upright glyph.

    The glyph is widened, slanted and rotated; this is the inverse map.
    """
    angle = np.deg2rad(attributes["rotation"])
    slant = np.tan(np.deg2rad(attributes["slant"]))
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    rotated = _matrices([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    slanted = _matrices([[one, -slant], [zero, one]])
    widened = _matrices([[attributes["width"], zero], [zero, one]])
    return np.linalg.inv(rotated @ slanted @ widened)


def _matrices(entries: list[list[np.ndarray]]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in entries], axis=-2)


def _pixel_centers() -> np.ndarray:
    """Returns `[pixels, 2]`: offset (right, down) of every pixel from the center of the image."""
    axis = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    down, right = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([right.ravel(), down.ravel()], axis=-1)


def _sample(fields: np.ndarray, glyph: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns fields[glyph] at `cells [count, pixels, 2]`, interpolated bilinearly."""
    cells = np.clip(cells, 0, FIELD_SIDE - 1.001)
    low = np.floor(cells)
    right, down = np.moveaxis(cells - low, -1, 0)
    column, row = np.moveaxis(low.astype(np.int32), -1, 0)
    corner = (glyph[:, None] * FIELD_SIDE + row) * FIELD_SIDE + column
    above, next_above, below, next_below = (
        fields.ravel().take(corner + step) for step in (0, 1, FIELD_SIDE, FIELD_SIDE + 1)
    )
    above += right * (next_above - above)
    below += right * (next_below - below)
    return above + down * (below - above)


@functools.cache
def _glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Returns distance fields and strokes of all glyphs, ordered by font, then by digit.

    Fields `[glyphs, side, side]` float32 hold the signed distance to the outline in cells, negative
    inside. Strokes `[glyphs]` hold the mean thickness in cells: inside a band of thickness w the
    mean distance to its edge is w / 4.
    """
    from scipy import ndimage  # slow to import, and only generated digits need it

    masks = [_mask(file, digit) for file in FONTS.values() for digit in CLASSES]
    inside = [ndimage.distance_transform_edt(mask) for mask in masks]
    outside = [ndimage.distance_transform_edt(~mask) for mask in masks]
    fields = [out - within for out, within in zip(outside, inside, strict=True)]
    strokes = [4 * within[mask].mean() for within, mask in zip(inside, masks, strict=True)]
    return np.stack(fields).astype(np.float32), np.array(strokes, np.float32)


def _mask(font: str, digit: str) -> np.ndarray:
    """Returns `[side, side]` bool: the ink of a digit, with its bounding box centered."""
    load_matplotlib.load()
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    glyph = TextPath((0, 0), digit, size=100, prop=FontProperties(fname=folder / f"{font}.ttf"))
    box = glyph.get_extents()
    axis = (np.arange(FIELD_SIDE) - (FIELD_SIDE - 1) / 2) * box.height / FIELD_HEIGHT
    right, up = np.meshgrid((box.x0 + box.x1) / 2 + axis, (box.y0 + box.y1) / 2 - axis)
    points = np.stack([right.ravel(), up.ravel()], axis=-1)
    # The even-odd rule keeps the holes of 0, 4, 6, 8 and 9 empty.
    inside = np.zeros(len(points), bool)
    for line in glyph.to_polygons():
        inside ^= Outline(line).contains_points(points)
    return inside.reshape(FIELD_SIDE, FIELD_SIDE)
