"""Pictures of matrices: attention maps and position tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure

# More labels than this are too small to read at phone width.
LABELED = 32
# Inches from label to label where all heads share one picture, and how wide that may become.
WORD_PITCH, CHARACTER_PITCH, MAX_WIDTH = 0.1, 0.08, 16.0
WEIGHT = "attention weight"
VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}


def attention(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws attention weights: `maps [layers, heads, time, time]` and `labels [time]`.

    Several sequences stand in one file under `<name>/maps` and `<name>/labels`. Where there is a
    `rollout [layers, time, time]` it is drawn as well.

    Returns:
      For each sequence all heads in one picture with a label on every row and column, and its
      rollout; for the longest one also the most sharply focused head of the first and of the last
      layer from near.
    """
    names = [key.removesuffix("maps") for key in arrays if key.rpartition("/")[2] == "maps"]
    longest = max(names, key=lambda name: arrays[f"{name}maps"].shape[-1])
    pictures = []
    for name in names:
        maps = arrays[f"{name}maps"]
        labels = [VISIBLE.get(label, label) for label in arrays[f"{name}labels"].tolist()]
        named = f": {name.rstrip('/')}" if name else ""
        suffix = f"_{name.rstrip('/').replace(' ', '_')}" if name else ""
        pictures.append(_all_heads(maps, labels, named, suffix))
        if name == longest:
            pictures.append(_close_up(maps, labels))
        if f"{name}rollout" in arrays:
            pictures.append(_rollout(arrays[f"{name}rollout"], labels, named, suffix))
    return pictures


def _all_heads(maps: np.ndarray, labels: Sequence[str], named: str, suffix: str) -> ReportFigure:
    layers, heads, time, _ = maps.shape
    return ReportFigure(
        name=f"attention_grid{suffix}",
        title=f"Attention of every head{named}",
        caption=(
            f"{layers} layers (rows) of {heads} heads over the same {time} tokens. In each square, "
            "row i shows where token i looks. A line beside the diagonal is a head that looks a "
            "fixed way back; columns are tokens that many look at. Gray cells hold exactly zero: "
            "what a mask hides, as the future, padding, and what lies outside a window. The "
            f"labels are drawn to be read in figures/attention_grid{suffix}.png."
        ),
        alt=(
            f"{layers} by {heads} attention maps, one row of maps per layer, for the tokens: "
            + " ".join(labels)
        ),
        figure=_plot_grid(maps, labels),
    )


def _close_up(maps: np.ndarray, labels: Sequence[str]) -> ReportFigure:
    layers = len(maps)
    chosen = [(layer, _sharpest_head(maps[layer])) for layer in sorted({0, layers - 1})]
    shown = labels[:LABELED]
    return ReportFigure(
        name="attention_close_up",
        title="Two heads from near" if len(chosen) == 2 else "One head from near",
        caption=(
            "The most sharply focused head of the first and of the last layer. Each row is the "
            "token that is being read, each column a token that it looks at; rows sum to one."
        ),
        alt="Attention maps with labels on both sides, for the tokens: " + " ".join(shown),
        figure=_plot_close_ups(
            [(f"layer {layer + 1}, head {head + 1}", maps[layer, head]) for layer, head in chosen],
            shown,
        ),
    )


def _rollout(rollout: np.ndarray, labels: Sequence[str], named: str, suffix: str) -> ReportFigure:
    shown = labels[:LABELED]
    return ReportFigure(
        name=f"attention_rollout{suffix}",
        title=f"Attention followed through all layers{named}",
        caption=(
            "Which tokens (columns) each position (rows) draws on after the last layer, when half "
            "of every position is taken to stay what it was and half to be what the mean head "
            "looked at (Abnar and Zuidema 2020). The diagonal is what stayed; a dark column is a "
            "token that all draw on. Values and feed-forward networks are left out, so this is a "
            "rough guide and no proof of what mattered."
        ),
        alt="Attention rollout after the last layer, for the tokens: " + " ".join(shown),
        figure=_plot_close_ups([(f"after layer {len(rollout)}", rollout[-1])], shown, "share"),
    )


def positions(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws a position table `table [positions, width]` and how alike its rows are."""
    table = arrays["table"]
    count, width = table.shape
    figure = style.new_figure(4.8)
    layout = [["even", "odd"], ["likeness", "likeness"]]
    panels = figure.subplot_mosaic(layout, height_ratios=(3, 1.6))
    limit = np.abs(table).max()
    # Apart, since neighboring channels are often sine and cosine, which would blur into stripes.
    for start, name in enumerate(("even", "odd")):
        half = table[:, start::2].T
        image = panels[name].imshow(
            half, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", extent=(0, count, width, 0)
        )
        style.frame_only(panels[name])
        panels[name].set(xlabel="position", title=f"{name} channels")
    panels["even"].set(ylabel="channel")
    panels["odd"].set(yticks=[])
    bar = figure.colorbar(image, ax=[panels["even"], panels["odd"]], pad=0.02, aspect=30)
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.3g}", "0", f"{limit:.3g}"])
    bar.outline.set_visible(False)
    _plot_likeness(panels["likeness"], table)
    return [
        ReportFigure(
            name="positions",
            title="Position table",
            caption=(
                "Each column is what the model adds to the token at that position; the channels "
                "run from fast waves to slow ones, like the digits of a counter. Below, the cosine "
                "between the middle position and every other: near positions look alike, and ever "
                "less so with distance."
            ),
            alt=f"Values of {count} positions in {width} channels, and the likeness of positions.",
            figure=figure,
        )
    ]


def _plot_likeness(axes: Axes, table: np.ndarray) -> None:
    middle = len(table) // 2
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    axes.plot(unit @ unit[middle], color=style.BLUE)
    axes.axvline(middle, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    axes.set(xlabel="position", ylabel="cosine", title=f"likeness to position {middle}")
    axes.margins(x=0)


def _plot_grid(maps: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draws all maps in one figure, wide enough for a label on every row and column."""
    layers, heads, time, _ = maps.shape
    longest = max(map(len, labels))
    readable = WORD_PITCH if longest > 1 else CHARACTER_PITCH
    pitch = min(readable, (MAX_WIDTH - 1) / heads / time)
    width = max(style.WIDTH, heads * time * pitch + 0.6 * longest * pitch + 0.5)
    scale = width / style.WIDTH  # of what has to be read when the whole is shown small
    # The layout engine would measure every label many times, which takes seconds; in inches:
    left, gap, bar = 0.25 * scale, 0.12, 0.75 * scale
    side = (width - left) / heads
    size = min(9.0, 66 * side / time)
    label = 0.62 * longest * size / 72 + 0.05
    side = (width - left - label) / heads - gap
    size = min(size, 68 * side / time)
    height = layers * (side + gap) + label + left + bar
    figure = style.new_figure(height, width=width)
    figure.set_layout_engine("none")
    grid = figure.subplots(
        layers,
        heads,
        squeeze=False,
        gridspec_kw={
            "left": (left + label) / width,
            "right": 1 - gap / width,
            "top": 1 - (left + label) / height,
            "bottom": (bar + gap) / height,
            "wspace": gap / side,
            "hspace": gap / side,
        },
    )
    for (layer, head), axes in np.ndenumerate(grid):
        image = plot_map(axes, maps[layer, head])
        label_sides(
            axes,
            size,
            rows=labels if head == 0 else (),
            columns=labels if layer == 0 else (),
        )
        middle = axes.get_position().get_points().mean(axis=0)
        if layer == 0:
            name = f"head {head + 1}" if heads <= 6 else f"{head + 1}"
            figure.text(middle[0], 1, name, size=9.5 * scale, ha="center", va="top")
        if head == 0:
            figure.text(
                0, middle[1], f"layer {layer + 1}", size=9.5 * scale, va="center", rotation=90
            )
    strip = figure.add_axes((0.2, 0.72 * bar / height, 0.6, 0.14 * bar / height))
    weight_colorbar(figure, image, scale=scale, cax=strip, orientation="horizontal")
    return figure


def _plot_close_ups(
    maps: Sequence[tuple[str, np.ndarray]], labels: Sequence[str], meaning: str = WEIGHT
) -> Figure:
    """Draws maps `[time, time]` below each other, each with its title."""
    figure = style.new_figure((style.WIDTH + 0.2) * len(maps) + 0.6)
    grid = figure.subplots(len(maps), squeeze=False)
    for axes, (title, weights) in zip(grid[:, 0], maps, strict=True):
        image = plot_map(axes, weights[: len(labels), : len(labels)])
        label_sides(axes, 9.0, rows=labels, columns=labels)
        axes.set_title(title, pad=8)
    place = {"location": "bottom", "shrink": 0.6, "aspect": 35, "pad": 0.02}
    weight_colorbar(figure, image, meaning, ax=grid.ravel().tolist(), **place)
    return figure


def label_sides(
    axes: Axes, size: float, *, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> None:
    """Writes labels beside the rows and above the columns of a map; words stand on end there."""
    axes.xaxis.tick_top()
    axes.tick_params(pad=1)
    turned = any(len(label) > 1 for label in columns)
    axes.set_xticks(np.arange(len(columns)), columns, fontsize=size, rotation=90 * turned)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=size)


def plot_map(axes: Axes, weights: np.ndarray) -> AxesImage:
    """Draws one map `[time, time]`; the square root keeps weak links visible beside strong ones."""
    style.frame_only(axes)
    hidden = np.ma.masked_equal(weights, 0)
    return axes.imshow(hidden, cmap=_weight_colors(), norm=PowerNorm(0.5, vmin=0, vmax=1))


def _weight_colors() -> Colormap:
    return matplotlib.colormaps["magma_r"].with_extremes(bad="#e9ebee")


def weight_colorbar(
    figure: Figure, image: AxesImage, meaning: str = WEIGHT, scale: float = 1.0, **place: Any
) -> None:
    """Draws the colors of `plot_map`; `place` goes to `Figure.colorbar`."""
    bar = figure.colorbar(image, **place)
    bar.set_label(meaning, fontsize=9.5 * scale)
    bar.set_ticks(
        [0.01, 0.1, 0.25, 0.5, 1],
        labels=["0.01", "0.1", "0.25", "0.5", "1"],
        fontsize=9.5 * scale,
    )
    bar.outline.set_visible(False)


def _sharpest_head(maps: np.ndarray) -> int:
    """Returns the head of `[heads, time, time]` with the least mean entropy of its rows."""
    entropy = -np.sum(maps * np.log(np.maximum(maps, np.finfo(float).tiny)), axis=-1)
    return int(np.argmin(entropy.mean(axis=-1)))
