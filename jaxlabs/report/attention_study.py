"""Pictures of the attention study: the scale, heads and memory, depth, and what heads look up."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from jaxlabs.report import style
from jaxlabs.report.attention_plots import label_sides, plot_map, weight_colorbar
from jaxlabs.report.figure import ReportFigure

Arrays = Mapping[str, np.ndarray]

COLORS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE)
MARKERS = ("o", "s", "^", "D")
NEEDED = 0.1  # nats that silencing a head has to cost for it to count as needed


def scaled_dot_product(arrays: Arrays) -> list[ReportFigure]:
    """Draws one attention step in numbers: scores and weights, raw and scaled."""
    panels = {
        "raw_scores": "raw scores, q · k",
        "raw_weights": "softmax of the raw scores",
        "scaled_scores": "scaled scores, q · k / √d",
        "weights": "softmax of the scaled scores",
    }
    figure = style.new_figure(5.6)
    limit = np.abs(arrays["raw_scores"]).max()
    for axes, (name, title) in zip(figure.subplots(2, 2).ravel(), panels.items(), strict=True):
        numbers = arrays[name]
        style.frame_only(axes)
        if "scores" in name:
            image = axes.imshow(numbers, cmap="RdBu_r", vmin=-limit, vmax=limit)
        else:
            image = plot_map(axes, numbers)
        _write_numbers(axes, numbers, image)
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.set(xlabel="keys", ylabel="queries")
    size = arrays["query"].shape[-1]
    return [
        ReportFigure(
            name="scaled_dot_product",
            title="One step of attention in numbers",
            caption=(
                f"{len(numbers)} random queries (rows) and keys (columns) of {size} numbers each. "
                "Dividing by the root of their size leaves the order of the scores as it was and "
                "draws the weights closer together: every row sums to one in both."
            ),
            alt="Scores and attention weights as four small matrices with their numbers.",
            figure=figure,
        )
    ]


def scaling(arrays: Arrays) -> list[ReportFigure]:
    """Draws entropy and gradient of the softmax of random scores against the size of a head."""
    dims = arrays["dims"]
    figure = style.new_figure(5.2)
    upper, lower = figure.subplots(2, sharex=True)
    most = np.log(arrays["keys"])
    for kind, color, mark in zip(("raw", "scaled"), COLORS, MARKERS, strict=False):
        upper.plot(dims, arrays[f"{kind}_entropy"], color=color, marker=mark, label=kind)
        low, middle, high = arrays[f"{kind}_gradient"].T
        lower.plot(dims, middle, color=color, marker=mark)
        lower.fill_between(dims, low, high, color=color, alpha=0.2, linewidth=0)
    upper.axhline(most, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    upper.annotate(
        "all keys alike",
        (dims[-1], most),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=style.MUTED,
    )
    upper.set(title="entropy of the weights [nats]", ylim=(0, most * 1.15))
    lower.set(title="gradient norm of the weights by the scores", xlabel="d_k", yscale="log")
    lower.set_xscale("log", base=2)
    lower.set_xticks(dims, [str(dim) for dim in dims])
    lower.minorticks_off()
    lower.yaxis.set_major_formatter(FuncFormatter(_power))
    figure.legend(loc="outside upper left", ncols=2)
    raw, scaled = arrays["raw_gradient"][-1, 1], arrays["scaled_gradient"][-1, 1]
    return [
        ReportFigure(
            name="attention_scaling",
            title="What the division by √d_k is for",
            caption=(
                f"Random queries choose among {int(arrays['keys'])} random keys. Without the scale "
                "the scores grow with the size of a head: the weights fall on a single key "
                f"({arrays['raw_entropy'][-1]:.2f} nats of entropy at {dims[-1]}) and the gradient "
                f"that comes back through the softmax fades (median {raw:.1g}, shaded: 10 to 90 % "
                f"of the draws). With it both stay where they were ({scaled:.2f})."
            ),
            alt="Entropy and gradient norm against d_k, for raw and for scaled scores.",
            figure=figure,
        )
    ]


def heads_and_memory(arrays: Arrays) -> list[ReportFigure]:
    """Draws the heads of self-attention and of cross-attention over a padded memory."""
    rows, columns = (arrays[name].tolist() for name in ("labels", "memory_labels"))
    heads = len(arrays["self_weights"])
    figure = style.new_figure(8.6)
    grid = figure.subplots(4, (heads + 1) // 2, squeeze=False)
    for kind, half, names in (("self", grid[:2], rows), ("cross", grid[2:], columns)):
        for head, axes in enumerate(half.ravel()):
            if head >= heads:
                axes.set_visible(False)
                continue
            image = plot_map(axes, arrays[f"{kind}_weights"][head])
            first = head % half.shape[1] == 0
            label_sides(axes, 8.5, rows=rows if first else (), columns=names)
            axes.set_title(f"{kind}-attention, head {head + 1}", fontsize=9)
    place = {"location": "bottom", "shrink": 0.6, "aspect": 35, "pad": 0.02}
    weight_colorbar(figure, image, ax=grid.ravel().tolist(), **place)
    return [
        ReportFigure(
            name="heads_and_memory",
            title="Several heads, and another sentence to look at",
            caption=(
                "The same queries (rows) with random projections. Above they look at their own "
                "sentence, below at another one: that is cross-attention, in which a translation "
                "reads its source. Each head weighs the words in its own way. Gray columns are "
                "padding of the other sentence; the mask leaves exactly nothing there."
            ),
            alt=(
                f"Attention of {heads} heads from “{' '.join(rows)}” to itself and to "
                f"“{' '.join(columns)}”."
            ),
            figure=figure,
        )
    ]


def depth(arrays: Arrays) -> list[ReportFigure]:
    """Draws final loss and first gradient against depth, with and without residuals and norms."""
    depths, variants = arrays["depths"], arrays["variants"].tolist()
    figure = style.new_figure(6.2)
    upper, lower = figure.subplots(2, sharex=True)
    for index, name in enumerate(variants):
        look = {"color": COLORS[index], "marker": MARKERS[index]}
        for axes, figures in ((upper, arrays["final_loss"]), (lower, arrays["gradient_norm"])):
            middle = np.median(figures[index], axis=-1)
            label = name if axes is upper else None
            axes.plot(depths, middle, label=label, **look)
            axes.fill_between(
                depths,
                *np.quantile(figures[index], [0, 1], axis=-1),
                color=COLORS[index],
                alpha=0.15,
                linewidth=0,
            )
    chance = float(arrays["chance"])
    upper.axhline(chance, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    upper.annotate(
        "guessing",
        (depths[0], chance),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=style.MUTED,
    )
    # What diverged is cut off: how far off it went says nothing.
    upper.set(title="loss after training [nats per symbol]", ylim=(-0.08, chance * 1.6))
    lower.set(title="gradient norm of the first block before training", xlabel="blocks")
    lower.set(yscale="log", xscale="log")
    lower.set_xticks(depths, [str(count) for count in depths])
    lower.minorticks_off()
    lower.yaxis.set_major_formatter(FuncFormatter(_power))
    figure.legend(loc="outside upper left", ncols=2)
    return [
        ReportFigure(
            name="attention_depth",
            title="Residual connections and LayerNorm over depth",
            caption=_depth_words(arrays),
            alt=f"Loss and gradient norm against depth for {', '.join(variants)}.",
            figure=figure,
        )
    ]


def _depth_words(arrays: Arrays) -> str:
    deepest, seeds = int(arrays["depths"][-1]), arrays["final_loss"].shape[-1]
    losses = np.median(arrays["final_loss"][:, -1], axis=-1)
    norms = np.median(arrays["gradient_norm"][:, -1], axis=-1)
    both, residual, norm, neither = range(4)
    return (
        "The task, to say a row of symbols backwards, takes one block; more are only in the way. "
        f"With {deepest} blocks the stack that has both ends at {losses[both]:.2g} nats (guessing: "
        f"{float(arrays['chance']):.2f}), and the first block's gradient starts at "
        f"{norms[both]:.2g}. Without residual connections the loss is {losses[norm]:.2g} and the "
        f"gradient {norms[norm]:.1g} ({losses[neither]:.2g} and {norms[neither]:.1g} without norms "
        "as well). Residual connections without norms add up: a loss of "
        f"{losses[residual]:.2g} from a gradient of {norms[residual]:.1g}; what leaves the "
        f"picture has diverged. Lines are medians of {seeds} seeds, bands all of them; each "
        "variant has the better one of two learning rates at every depth."
    )


def heads(arrays: Arrays) -> list[ReportFigure]:
    """Draws the loss against the number of heads, and where the heads of each number look."""
    counts, offsets = arrays["heads"].tolist(), arrays["offsets"].tolist()
    figure = style.new_figure(6.6)
    layout = [["loss", "score"], ["maps", "maps"]]
    panels = figure.subplot_mosaic(layout, height_ratios=(1, 1.55))
    for name, title in (("loss", "loss [nats per look-up]"), ("score", "specialization of heads")):
        figures = arrays["loss" if name == "loss" else "specialization"]
        axes = panels[name]
        axes.plot(counts, figures.mean(axis=-1), color=style.BLUE)
        axes.plot(counts, figures, "o", color=style.BLUE, alpha=0.5, markersize=4)
        axes.set(title=title, xlabel="heads", xscale="log", ylim=(-0.05, None))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
    panels["score"].set_ylim(-0.05, 1.05)
    _plot_profiles(panels["maps"], [arrays[f"profiles_{count}"][0] for count in counts])
    weight_colorbar(
        figure,
        panels["maps"].images[0],
        ax=panels["maps"],
        location="bottom",
        shrink=0.6,
        aspect=35,
        pad=0.02,
    )
    return [
        ReportFigure(
            name="attention_heads",
            title="One head against many at equal parameters",
            caption=_heads_words(arrays, counts, offsets),
            alt="Loss and specialization against the number of heads, and where heads look.",
            figure=figure,
        )
    ]


def _plot_profiles(axes: Axes, profiles: Sequence[np.ndarray]) -> None:
    """Draws the profiles `[head, offset]` of several models as one map, parted by gaps."""
    wide = profiles[0].shape[1]
    rows = [row for one in profiles for row in (*one, np.zeros(wide))][:-1]
    plot_map(axes, np.array(rows))
    starts = np.cumsum([0, *(len(one) + 1 for one in profiles)])
    names = [
        (start + head, f"{head + 1} of {len(one)}")
        for start, one in zip(starts, profiles, strict=False)
        for head in range(len(one))
    ]
    axes.set_aspect("auto")
    axes.set_yticks([row for row, _ in names], [name for _, name in names], fontsize=7.5)
    axes.set_xticks(np.arange(wide))
    axes.set(xlabel="places before the query", title="where heads look (first seed)")


def _heads_words(arrays: Arrays, counts: Sequence[int], offsets: Sequence[int]) -> str:
    losses, scores = (arrays[name].mean(axis=-1) for name in ("loss", "specialization"))
    best = int(np.argmax(scores))
    told = ", ".join(
        f"{loss:.2g} with {count} head{'s'[: count > 1]}"
        for count, loss in zip(counts, losses, strict=True)
    )
    profile, costs = (arrays[f"{name}_{counts[best]}"][0] for name in ("profiles", "costs"))
    needed = int((costs.max(axis=-1) > NEEDED).sum())
    return (
        f"Every position has to name the symbols {', '.join(map(str, offsets[:-1]))} and "
        f"{offsets[-1]} places before it, through one layer that is read out linearly. Each model "
        f"has {int(arrays['parameters'][0]):,} parameters, whatever its heads. The loss is {told} "
        f"(guessing: {float(arrays['chance']):.2f}): one head makes one mean of all that it looks "
        "up, several can fetch one symbol each. Specialization is 1 for heads that look at a "
        f"single place and 0 for those that look at all alike; it is highest with {counts[best]} "
        f"({scores[best]:.2f}), whose heads look most at the places "
        f"{', '.join(str(int(row.argmax())) for row in profile)}. Silencing a head costs some "
        f"look-up more than {NEEDED} nats for {needed} of these; the others repeat them."
    )


def _write_numbers(axes: Axes, numbers: np.ndarray, image: AxesImage) -> None:
    for (row, column), value in np.ndenumerate(numbers):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if dark else style.INK,
        )


def _power(value: float, _: int | None = None) -> str:
    """Writes a power of ten as one."""
    digits = str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"
