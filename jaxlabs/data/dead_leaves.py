"""The dead leaves model: images of occluding shapes with the 1/f amplitude of natural images.

Matheron's model; Lee, Mumford and Huang (2001), "Occlusion models for natural images", IJCV 41:
images are scale-invariant if the radii r have the density r^-3.
"""

import dataclasses
import math

import numpy as np

MIN_RADIUS, MAX_RADIUS = 1.0, 256.0
"""Radii in pixels. From one pixel to half of the image they give 1/f over most frequencies."""

COVERAGE = 5.0
"""Mean number of leaves over a pixel; a share of exp(-5), 0.7 %, stays background."""

MAX_ASPECT = 3.0
"""Maximum aspect ratio of the rectangles, which are half of the leaves."""

SUPERSAMPLING = 2
"""Grid cells per pixel and axis; leaves have hard edges on the grid, pixels are means of cells."""

# Leaves are rasterized in groups of similar size; sizes grow by this factor between groups.
GROWTH = 1.3
# Maximum grid cells in memory at once.
MAX_CELLS = 500_000

BACKGROUND = 0.5


@dataclasses.dataclass(frozen=True)
class Leaves:
    """Leaves in painting order, `[leaves]` each; lengths in grid cells."""

    down: np.ndarray
    right: np.ndarray
    radius: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    ratio: np.ndarray
    is_disc: np.ndarray
    gray: np.ndarray

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Half sides of the rectangles, which have the area of the disc."""
        half = self.radius * (math.sqrt(math.pi) / 2)
        return half * self.ratio, half / self.ratio

    def extent(self) -> np.ndarray:
        """Returns the maximum distance of each leaf from its center."""
        return np.where(self.is_disc, self.radius, np.hypot(*self.sides))

    def take(self, index: np.ndarray) -> "Leaves":
        """Returns the leaves at some indices."""
        return Leaves(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def sample(count: int, side: int = 512, seed: int = 0) -> np.ndarray:
    """Returns images `[count, side, side]` float64 with values in [0, 1].

    Discs and rotated rectangles of uniform gray values are painted over each other.
    """
    return np.stack(
        [_sample(side, np.random.default_rng([seed, number])) for number in range(count)]
    )


def _sample(side: int, rng: np.random.Generator) -> np.ndarray:
    leaves, fine = _scatter(side, rng), side * SUPERSAMPLING
    top = np.zeros(fine * fine, np.int32)  # index of the topmost leaf, counted from 1
    group = np.ceil(np.log(leaves.extent() + 1) / math.log(GROWTH)).astype(int) * 2 + leaves.is_disc
    for one in np.unique(group):
        layer = np.zeros_like(top)
        members = np.flatnonzero(group == one)
        extent = math.ceil(GROWTH ** (one // 2)) - 1
        at_once = max(1, MAX_CELLS // (2 * extent + 1) ** 2)
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            cells, leaf = _covered(leaves.take(part), extent, fine)
            layer[cells] = part[leaf] + 1  # the last leaf of a cell is on top
        np.maximum(top, layer, out=top)
    image = np.concatenate([[BACKGROUND], leaves.gray])[top]
    return image.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean(axis=(1, 3))


def _scatter(side: int, rng: np.random.Generator) -> Leaves:
    count = _number(side)
    radius = 1 / np.sqrt(rng.uniform(MAX_RADIUS**-2, MIN_RADIUS**-2, count))
    # Centers extend beyond the border by the radius, so that the coverage is uniform.
    down, right = rng.uniform(-1, 1, (2, count)) * (side / 2 + radius) + side / 2
    angle = rng.uniform(0, math.pi, count)
    ratio = MAX_ASPECT ** rng.uniform(-0.5, 0.5, count)
    is_disc, gray = rng.random(count) < 0.5, rng.random(count)
    lengths = [(SUPERSAMPLING * length).astype(np.float32) for length in (down, right, radius)]
    angles = [part.astype(np.float32) for part in (np.cos(angle), np.sin(angle), ratio)]
    return Leaves(*lengths, *angles, is_disc, gray)


def _number(side: int) -> int:
    """Returns the number of leaves that cover a pixel COVERAGE times in the mean.

    A leaf of radius r has its center in an area of (side + 2r)^2 and covers pi r^2 of it; the mean
    ratio over the density of r is integrated numerically.
    """
    share = (np.arange(10_000) + 0.5) / 10_000
    radius = 1 / np.sqrt(MAX_RADIUS**-2 + share * (MIN_RADIUS**-2 - MAX_RADIUS**-2))
    covered = math.pi * radius**2 / (side + 2 * radius) ** 2
    return round(COVERAGE / covered.mean())


def _covered(leaves: Leaves, extent: int, fine: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `(cells, leaf)`: indices of the grid cells that leaves of one kind cover."""
    box = np.arange(-extent, extent + 1)
    rows, y = _axis(leaves.down, box, fine)
    columns, x = _axis(leaves.right, box, fine)
    if leaves.is_disc[0]:
        inside = (y * y)[:, :, None] + (x * x)[:, None, :] < (leaves.radius**2)[:, None, None]
    else:
        cosine, sine = leaves.cosine[:, None], leaves.sine[:, None]
        long, short = (half[:, None, None] for half in leaves.sides)
        inside = np.abs((y * sine)[:, :, None] + (x * cosine)[:, None, :]) < long
        inside &= np.abs((y * cosine)[:, :, None] - (x * sine)[:, None, :]) < short
    leaf, row, column = np.nonzero(inside)
    return rows[leaf, row] * fine + columns[leaf, column], leaf


def _axis(center: np.ndarray, box: np.ndarray, fine: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cells and their distances from the centers, `[leaves, box]`; 1e6 outside."""
    cells = np.floor(center).astype(np.int32)[:, None] + box[None, :].astype(np.int32)
    distance = cells + np.float32(0.5) - center[:, None]
    return cells, np.where((cells >= 0) & (cells < fine), distance, np.float32(1e6))
