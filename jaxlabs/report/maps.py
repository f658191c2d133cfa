"""Pictures of matrices: attention maps and position tables."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from jaxlabs.report import style
from jaxlabs.report.picture import Picture

# More characters than this are too small to read at phone width.
LABELLED = 32
VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}


def attention(arrays: Mapping[str, np.ndarray]) -> list[Picture]:
    """Draws attention weights: `maps [layers, heads, time, time]` and `labels [time]`.

    Returns:
      All heads side by side, then the most sharply focused head of the first and of the last layer,
      with a label on every row and column.
    """
    maps, labels = (
        arrays["maps"],
        [VISIBLE.get(label, label) for label in arrays["labels"].tolist()],
    )
    layers, heads, time, _ = maps.shape
    grid = Picture(
        name="attention_grid",
        title="Attention of every head",
        caption=(
            f"{layers} layers (rows) of {heads} heads over the same {time} tokens. In each square, "
            "row i shows where token i looks. A line beside the diagonal is a head that looks a "
            "fixed way back; columns are tokens that many look at. Grey cells hold exactly zero: "
            "with a causal mask, the whole future."
        ),
        alt=f"{layers} by {heads} attention maps, one row of maps per layer.",
        figure=_draw_grid(maps),
    )
    chosen = [(layer, _sharpest_head(maps[layer])) for layer in sorted({0, layers - 1})]
    shown = labels[:LABELLED]
    close_up = Picture(
        name="attention_close_up",
        title="Two heads from near" if len(chosen) == 2 else "One head from near",
        caption=(
            "The most sharply focused head of the first and of the last layer. Each row is the "
            "token that is being read, each column a token that it looks back at; rows sum to one."
        ),
        alt=(
            "Attention maps with labels on both sides, for the text: "
            + "".join(arrays["labels"][:LABELLED].tolist())
        ),
        figure=_draw_close_ups(maps, chosen, shown),
    )
    return [grid, close_up]


def positions(arrays: Mapping[str, np.ndarray]) -> list[Picture]:
    """Draws a position table `table [positions, width]` and how alike its rows are."""
    table = arrays["table"]
    count, width = table.shape
    figure = style.new_figure(4.8)
    layout = [["even", "odd"], ["likeness", "likeness"]]
    panels = figure.subplot_mosaic(layout, height_ratios=(3, 1.6))
    limit = np.abs(table).max()
    # Apart, since neighbouring channels are often sine and cosine, which would blur into stripes.
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
    _draw_likeness(panels["likeness"], table)
    return [
        Picture(
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


def _draw_likeness(axes: Axes, table: np.ndarray) -> None:
    middle = len(table) // 2
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    axes.plot(unit @ unit[middle], color=style.BLUE)
    axes.axvline(middle, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    axes.set(xlabel="position", ylabel="cosine", title=f"likeness to position {middle}")
    axes.margins(x=0)


def _draw_grid(maps: np.ndarray) -> Figure:
    layers, heads = maps.shape[:2]
    side = style.WIDTH / max(heads, 3)
    figure = style.new_figure(side * layers + 0.8)
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            image = _draw_map(axes, maps[layer, head])
            axes.set(xticks=[], yticks=[])
            if layer == 0:
                axes.set_title(f"head {head + 1}" if heads <= 6 else f"{head + 1}", loc="center")
        grid[layer, 0].set_ylabel(f"layer {layer + 1}")
    _weight_bar(figure, image, grid.ravel().tolist())
    return figure


def _draw_close_ups(
    maps: np.ndarray, chosen: Sequence[tuple[int, int]], labels: Sequence[str]
) -> Figure:
    figure = style.new_figure((style.WIDTH + 0.2) * len(chosen) + 0.6)
    grid = figure.subplots(len(chosen), squeeze=False)
    for axes, (layer, head) in zip(grid[:, 0], chosen, strict=True):
        image = _draw_map(axes, maps[layer, head, : len(labels), : len(labels)])
        ticks = np.arange(len(labels))
        axes.set_xticks(ticks, labels, fontsize=9)
        axes.set_yticks(ticks, labels, fontsize=9)
        axes.xaxis.tick_top()
        axes.set_title(f"layer {layer + 1}, head {head + 1}", pad=8)
    _weight_bar(figure, image, grid.ravel().tolist())
    return figure


def _draw_map(axes: Axes, weights: np.ndarray) -> AxesImage:
    """Draws one map `[time, time]`; the square root keeps weak links visible beside strong ones."""
    style.frame_only(axes)
    hidden = np.ma.masked_equal(weights, 0)
    return axes.imshow(hidden, cmap=_weight_colours(), norm=PowerNorm(0.5, vmin=0, vmax=1))


def _weight_colours() -> Colormap:
    return matplotlib.colormaps["magma_r"].with_extremes(bad="#e9ebee")


def _weight_bar(figure: Figure, image: AxesImage, axes: list[Axes]) -> None:
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=35, pad=0.02)
    bar.set_label("attention weight")
    bar.set_ticks([0.01, 0.1, 0.25, 0.5, 1], labels=["0.01", "0.1", "0.25", "0.5", "1"])
    bar.outline.set_visible(False)


def _sharpest_head(maps: np.ndarray) -> int:
    """Returns the head of `[heads, time, time]` with the least mean entropy of its rows."""
    entropy = -np.sum(maps * np.log(np.maximum(maps, np.finfo(float).tiny)), axis=-1)
    return int(np.argmin(entropy.mean(axis=-1)))
