"""Plots of attention maps and position tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Axes, Figure, ReportFigure, report_figure

if TYPE_CHECKING:
    from matplotlib.image import AxesImage

MAX_LABELS = 32
"""Labels on a side of a map that stay legible on a phone."""
# Inches per label in the figure of all heads, and its largest width.
WORD_PITCH, CHARACTER_PITCH, MAX_WIDTH = 0.1, 0.08, 16.0
WEIGHT = "attention weight"
BELOW = {"location": "bottom", "shrink": 0.6, "aspect": 35, "pad": 0.02}
"""Options of a color bar below several maps."""
VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


def attention(arrays: Arrays) -> list[ReportFigure]:
    """Plots attention weights `maps [layers, heads, time, time]` with `labels [time]`.

    A file with several sequences has `<name>/maps` and `<name>/labels` for each. An optional
    `rollout [layers, time, time]` is plotted as well.

    Returns:
      For each sequence, one figure of all heads with labels, and its rollout; for the longest
      sequence also the head with the lowest entropy in the first and in the last layer, enlarged.
    """
    names = [key.removesuffix("maps") for key in arrays if key.rpartition("/")[2] == "maps"]
    longest = max(names, key=lambda name: arrays[f"{name}maps"].shape[-1])
    figures = []
    for name in names:
        maps = arrays[f"{name}maps"]
        labels = [label.translate(VISIBLE) for label in arrays[f"{name}labels"].tolist()]
        named = f": {name.rstrip('/')}" if name else ""
        suffix = f"_{name.rstrip('/').replace(' ', '_')}" if name else ""
        figures.append(_all_heads(maps, labels, named, suffix))
        if name == longest:
            figures.append(_close_up(maps, labels))
        if f"{name}rollout" in arrays:
            figures.append(_rollout(arrays[f"{name}rollout"], labels, named, suffix))
    return figures


def _all_heads(maps, labels, named, suffix):
    layers, heads, time, _ = maps.shape
    return ReportFigure(
        name=f"attention_grid{suffix}",
        title=f"Attention maps of all heads{named}",
        caption=(
            f"Layers (rows): {layers}; heads (columns): {heads}; tokens: {time}. In each map, "
            "row i is the attention of query i over all keys. An off-diagonal line is a head that "
            "attends at a fixed offset; a column is a token that many queries attend to. Gray: "
            "exactly zero (causal mask, padding or outside the window). Full size: "
            f"figures/attention_grid{suffix}.png."
        ),
        alt=(
            f"{layers} by {heads} attention maps, one row of maps per layer, for the tokens: "
            + " ".join(labels)
        ),
        figure=_plot_grid(maps, labels),
    )


def _close_up(maps, labels):
    layers, shown = len(maps), labels[:MAX_LABELS]
    chosen = [(layer, _sharpest_head(maps[layer])) for layer in sorted({0, layers - 1})]
    close_ups = {f"layer {layer + 1}, head {head + 1}": maps[layer, head] for layer, head in chosen}
    return ReportFigure(
        name="attention_close_up",
        title="Sharpest heads" if len(chosen) == 2 else "Sharpest head",
        caption=(
            "The head with the lowest attention entropy in the first and in the last layer. Rows: "
            f"queries; columns: keys{_cut(labels) or '; rows sum to one'}."
        ),
        alt="Attention maps with labels on both sides, for the tokens: " + " ".join(shown),
        figure=_plot_close_ups(close_ups, shown),
    )


def _cut(labels):
    """Returns which of the tokens the close-ups show, if not all."""
    return f", the first {MAX_LABELS} of {len(labels)} tokens" if len(labels) > MAX_LABELS else ""


def _rollout(rollout, labels, named, suffix):
    shown = labels[:MAX_LABELS]
    return ReportFigure(
        name=f"attention_rollout{suffix}",
        title=f"Attention rollout{named}",
        caption=(
            "Attention rollout (Abnar and Zuidema 2020): the product over layers of the mean "
            "attention of all heads, averaged with the identity for the residual connection. "
            f"Rows: output positions; columns: input tokens{_cut(labels)}. Values and feed-forward "
            "networks are ignored, so this is only a rough attribution."
        ),
        alt="Attention rollout after the last layer, for the tokens: " + " ".join(shown),
        figure=_plot_close_ups(
            {f"after layer {len(rollout)}": rollout[-1]}, shown, "rollout weight"
        ),
    )


@report_figure("Position table", 4.8)
def positions(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots a table `[positions, channels]` and the cosine similarity of its rows."""
    table = arrays["table"]
    count, width = table.shape
    layout = [["even", "odd"], ["similarity", "similarity"]]
    panels = figure.subplot_mosaic(layout, height_ratios=(3, 1.6))
    limit = np.abs(table).max()
    # Separate panels: neighboring channels are often sine and cosine, which would blur.
    colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "aspect": "auto"}
    for start, name in enumerate(("even", "odd")):
        image = panels[name].imshow(table[:, start::2].T, extent=(0, count, width, 0), **colors)
        style.frame_only(panels[name])
        panels[name].set(xlabel="position", title=f"{name} channels")
    panels["even"].set(ylabel="channel")
    panels["odd"].set(yticks=[])
    bar = figure.colorbar(image, ax=[panels["even"], panels["odd"]], pad=0.02, aspect=30)
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.3g}", "0", f"{limit:.3g}"])
    bar.outline.set_visible(False)
    axes, middle = panels["similarity"], count // 2
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    axes.plot(unit @ unit[middle], color=style.BLUE)
    axes.axvline(middle, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    axes.set(xlabel="position", ylabel="cosine", title=f"similarity to position {middle}")
    axes.margins(x=0)
    return (
        "Top: the position encoding; channels run from high to low frequency. Bottom: "
        "cosine similarity of the middle position to every other; it decreases with "
        "distance.",
        f"Encodings of {count} positions in {width} channels, and their cosine similarity.",
    )


def _plot_grid(maps, labels):
    """Plots all maps in one figure, wide enough for a label on every row and column."""
    layers, heads, time, _ = maps.shape
    longest = max(map(len, labels))
    readable = WORD_PITCH if longest > 1 else CHARACTER_PITCH
    pitch = min(readable, (MAX_WIDTH - 1) / heads / time)
    width = max(style.WIDTH, heads * time * pitch + 0.6 * longest * pitch + 0.5)
    scale = width / style.WIDTH  # of text that has to stay legible when the figure is scaled down
    # Manual layout in inches: a layout engine measures every label, which takes seconds.
    left, gap, bar = 0.25 * scale, 0.12, 0.75 * scale
    side = (width - left) / heads
    size = min(9.0, 66 * side / time)
    label = 0.62 * longest * size / 72 + 0.05
    side = (width - left - label) / heads - gap
    size = min(size, 68 * side / time)
    height = layers * (side + gap) + label + left + bar
    figure = style.new_figure(height, width=width)
    figure.set_layout_engine("none")
    margins = {"left": (left + label) / width, "right": 1 - gap / width}
    margins |= {"top": 1 - (left + label) / height, "bottom": (bar + gap) / height}
    spaces = {"wspace": gap / side, "hspace": gap / side}
    grid = figure.subplots(layers, heads, squeeze=False, gridspec_kw=margins | spaces)
    for (layer, head), axes in np.ndenumerate(grid):
        image = plot_map(axes, maps[layer, head])
        rows, columns = labels if head == 0 else (), labels if layer == 0 else ()
        label_sides(axes, size, rows=rows, columns=columns)
        middle = axes.get_position().get_points().mean(axis=0)
        text = {"size": 9.5 * scale, "va": "center"}
        edge = 0.04 * scale
        if layer == 0:
            name = f"head {head + 1}" if heads <= 6 else f"{head + 1}"
            top = 1 - edge / height
            figure.text(middle[0], top, name, **text | {"ha": "center", "va": "top"})
        if head == 0:
            figure.text(edge / width, middle[1], f"layer {layer + 1}", rotation=90, **text)
    strip = figure.add_axes((0.2, 0.72 * bar / height, 0.6, 0.14 * bar / height))
    weight_colorbar(figure, image, scale=scale, cax=strip, orientation="horizontal")
    return figure


def _plot_close_ups(maps, labels, meaning=WEIGHT):
    """Plots maps `[time, time]` by title below each other."""
    figure = style.new_figure((style.WIDTH + 0.2) * len(maps) + 0.6)
    grid = figure.subplots(len(maps), squeeze=False)[:, 0]
    for axes, (title, weights) in zip(grid, maps.items(), strict=True):
        image = plot_map(axes, weights[: len(labels), : len(labels)])
        label_sides(axes, 9.0, rows=labels, columns=labels)
        axes.set_title(title, pad=8)
    weight_colorbar(figure, image, meaning, ax=grid.tolist(), **BELOW)
    return figure


def label_sides(
    axes: Axes, size: float, *, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> None:
    """Labels the rows and columns of a map; column labels of several letters are vertical."""
    axes.xaxis.tick_top()
    axes.tick_params(pad=1)
    text = {"fontsize": size, "va": "center_baseline"}  # what hangs below a line shifts no label
    axes.set_yticks(np.arange(len(rows)), rows, **text)
    if any(len(label) > 1 for label in columns):
        text |= {"rotation": 90, "rotation_mode": "anchor", "ha": "left"}
    else:
        text = {"fontsize": size}
    axes.set_xticks(np.arange(len(columns)), columns, **text)


def plot_map(axes: Axes, weights: np.ndarray) -> "AxesImage":
    """Plots one map `[time, time]`; a square-root color scale keeps small weights visible."""
    import matplotlib
    from matplotlib.colors import PowerNorm

    style.frame_only(axes)
    colors = matplotlib.colormaps["magma_r"].with_extremes(bad="#e9ebee")
    masked = np.ma.masked_equal(weights, 0)
    return axes.imshow(masked, cmap=colors, norm=PowerNorm(0.5, vmin=0, vmax=1))


def weight_colorbar(
    figure: Figure, image: "AxesImage", meaning: str = WEIGHT, scale: float = 1.0, **options: Any
) -> None:
    """Adds the color bar of `plot_map`; `options` go to `Figure.colorbar`."""
    bar = figure.colorbar(image, **options)
    bar.set_label(meaning, fontsize=9.5 * scale)
    ticks = [0.01, 0.1, 0.25, 0.5, 1]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=9.5 * scale)
    bar.outline.set_visible(False)


def _sharpest_head(maps):
    """Returns the head of `[heads, time, time]` with the lowest mean entropy over its rows."""
    entropy = -np.sum(maps * np.log(np.maximum(maps, np.finfo(float).tiny)), axis=-1)
    return int(np.argmin(entropy.mean(axis=-1)))
