"""Dead leaves: pictures of shapes that hide each other, with the 1/f amplitude of photographs.

Matheron's model; Lee, Mumford and Huang (2001), "Occlusion models for natural images", IJCV 41:
with sizes r of density r^-3 a picture looks the same at every scale.
"""

import dataclasses
import math

import numpy as np

MIN_RADIUS, MAX_RADIUS = 1.0, 256.0
"""Radii in pixels. Leaves from a pixel to half of the picture keep 1/f over most frequencies."""

LAYERS = 5.0
"""How often a place is covered in the mean; a share of exp(-5), 0.7 %, stays ground."""

TALLEST = 3.0
"""Of the rectangles, which are half of the leaves: the largest ratio of the sides."""

FINE = 2
"""Leaves are drawn with hard edges on a grid so many times finer, whose means are the pixels."""

# Leaves are drawn together whose boxes are alike: sides grow by this factor from group to group.
GROWTH = 1.3
# Most cells of the fine grid that are held in memory at once.
CELLS = 500_000

GROUND = 0.5


@dataclasses.dataclass(frozen=True)
class Leaves:
    """Leaves in the order in which they fall, [leaves] each; lengths in cells of the fine grid."""

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
        """Half of both sides of the rectangles, as large in area as the disc."""
        half = self.radius * (math.sqrt(math.pi) / 2)
        return half * self.ratio, half / self.ratio

    def reach(self) -> np.ndarray:
        """Returns how far each leaf reaches from its center."""
        return np.where(self.is_disc, self.radius, np.hypot(*self.sides))

    def take(self, places: np.ndarray) -> "Leaves":
        """Returns the leaves at these places."""
        return Leaves(*(getattr(self, field.name)[places] for field in dataclasses.fields(self)))


def draw(count: int, side: int = 512, seed: int = 0) -> np.ndarray:
    """Returns pictures [count, side, side] float64 with values in [0, 1].

    Discs and turned rectangles of uniform gray values fall one onto the other.
    """
    return np.stack([_draw(side, np.random.default_rng([seed, number])) for number in range(count)])


def _draw(side: int, generator: np.random.Generator) -> np.ndarray:
    leaves, fine = _scatter(side, generator), side * FINE
    top = np.zeros(fine * fine, np.int32)  # number of the leaf that is seen, counted from 1
    group = np.ceil(np.log(leaves.reach() + 1) / math.log(GROWTH)).astype(int) * 2 + leaves.is_disc
    for one in np.unique(group):
        layer = np.zeros_like(top)
        members = np.flatnonzero(group == one)
        reach = math.ceil(GROWTH ** (one // 2)) - 1
        at_once = max(1, CELLS // (2 * reach + 1) ** 2)
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            cells, leaf = _covered(leaves.take(part), reach, fine)
            layer[cells] = part[leaf] + 1  # of a cell's leaves the last one, which lies on top
        np.maximum(top, layer, out=top)
    picture = np.concatenate([[GROUND], leaves.gray])[top]
    return picture.reshape(side, FINE, side, FINE).mean(axis=(1, 3))


def _scatter(side: int, generator: np.random.Generator) -> Leaves:
    count = _number(side)
    radius = 1 / np.sqrt(generator.uniform(MAX_RADIUS**-2, MIN_RADIUS**-2, count))
    # Centers reach out as far as the leaf does, so that borders are covered like the middle.
    down, right = generator.uniform(-1, 1, (2, count)) * (side / 2 + radius) + side / 2
    angle = generator.uniform(0, math.pi, count)
    ratio = TALLEST ** generator.uniform(-0.5, 0.5, count)
    is_disc, gray = generator.random(count) < 0.5, generator.random(count)
    lengths = [(FINE * length).astype(np.float32) for length in (down, right, radius)]
    turned = [part.astype(np.float32) for part in (np.cos(angle), np.sin(angle), ratio)]
    return Leaves(*lengths, *turned, is_disc, gray)


def _number(side: int) -> int:
    """Returns how many leaves cover a picture LAYERS times in the mean.

    A leaf of radius r falls on an area of (side + 2r)^2 and covers pi r^2 of it; the mean of their
    ratio over the density of r is taken numerically.
    """
    share = (np.arange(10_000) + 0.5) / 10_000
    radius = 1 / np.sqrt(MAX_RADIUS**-2 + share * (MIN_RADIUS**-2 - MAX_RADIUS**-2))
    covered = math.pi * radius**2 / (side + 2 * radius) ** 2
    return round(LAYERS / covered.mean())


def _covered(leaves: Leaves, reach: int, fine: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (cells, leaf): the places in the fine grid that leaves of one kind cover, by leaf."""
    box = np.arange(-reach, reach + 1)
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
    """Returns cells and their distances from the centers, [leaves, box]; outside it is huge."""
    cells = np.floor(center).astype(np.int32)[:, None] + box[None, :].astype(np.int32)
    distance = cells + np.float32(0.5) - center[:, None]
    return cells, np.where((cells >= 0) & (cells < fine), distance, np.float32(1e6))
