"""Plots of the attention study: scaling, self- and cross-attention, depth, number of heads."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.attention_plots import BELOW, label_sides, plot_map, weight_colorbar
from jaxlabs.report.figure import Arrays, Figure, report_figure
from jaxlabs.report.lines import LINES, band, label_powers, label_x, reference, write_values

RESULTS = ("final_loss", "gradient_norm")
NEEDED = 0.1
"""Increase of the loss in nats, when a head is ablated, above which the head counts as needed."""


@report_figure("Scaled dot-product attention, with values", 5.6)
def scaled_dot_product(figure: Figure, arrays: Arrays) -> str:
    """Scores and attention weights as four small matrices with their values."""
    panels = {
        "raw_scores": "unscaled scores, q · k",
        "raw_weights": "softmax of unscaled scores",
        "scaled_scores": "scaled scores, q · k / √d",
        "weights": "softmax of scaled scores",
    }
    limit = np.abs(arrays["raw_scores"]).max()
    for axes, (name, title) in zip(figure.subplots(2, 2).ravel(), panels.items(), strict=True):
        values = arrays[name]
        style.frame_only(axes)
        if "scores" in name:
            image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        else:
            image = plot_map(axes, values)
        dark = image.to_rgba(values)[..., :3] @ (0.3, 0.6, 0.1) < 0.5
        write_values(axes, np.vectorize("{:.2f}".format)(values), dark, fontsize=8.5)
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[], xlabel="keys", ylabel="queries")
    return (
        f"{len(values)} random queries (rows) and keys (columns) with d_k = "
        f"{arrays['query'].shape[-1]}. Division by √d_k keeps the order of the scores and "
        "flattens the softmax; each row of weights sums to one."
    )


@report_figure("Effect of scaling by 1/√d_k", 5.2, name="attention_scaling")
def scaling(figure: Figure, arrays: Arrays) -> str:
    """Entropy and gradient norm against d_k, for unscaled and scaled scores."""
    dims = arrays["dims"]
    upper, lower = figure.subplots(2, sharex=True)
    uniform = np.log(arrays["keys"])
    for kind, label, line in zip(("raw", "scaled"), ("unscaled", "scaled"), LINES, strict=False):
        upper.plot(dims, arrays[f"{kind}_entropy"], label=label, **line)
        band(lower, dims, *arrays[f"{kind}_gradient"].T, **line)
    reference(upper, uniform, "uniform", end="right")
    upper.set(title="entropy of attention weights [nats]", ylim=(0, uniform * 1.15))
    lower.set(title="norm of the softmax Jacobian", xlabel="d_k", yscale="log")
    lower.set_xscale("log", base=2)
    label_x(lower, dims)
    label_powers(lower)
    figure.legend(loc="outside upper left", ncols=2)
    raw, scaled = arrays["raw_gradient"][-1, 1], arrays["scaled_gradient"][-1, 1]
    return (
        f"Random queries over {arrays['keys']} random keys. Unscaled scores grow with "
        f"d_k: the softmax saturates (entropy {arrays['raw_entropy'][-1]:.2f} nats at d_k "
        f"= {dims[-1]}) and its gradient vanishes (median {raw:.1g}; band: 10th to 90th "
        f"percentile). Scaled scores keep both constant ({scaled:.2f})."
    )


@report_figure("Self-attention and cross-attention", 8.6)
def self_and_cross_attention(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots the heads of self-attention and of cross-attention over a padded memory."""
    rows, columns = (arrays[name].tolist() for name in ("labels", "memory_labels"))
    heads = len(arrays["self_weights"])
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
    weight_colorbar(figure, image, ax=grid.ravel().tolist(), **BELOW)
    return (
        "The same queries (rows) with random projections. Top: self-attention. Bottom: "
        "cross-attention to a second sentence, as in an encoder-decoder. Gray columns are "
        "padding: the mask sets their weights to exactly zero.",
        f"Attention of {heads} heads from “{' '.join(rows)}” to itself and to"
        f" “{' '.join(columns)}”.",
    )


@report_figure("Residual connections and LayerNorm over depth", 6.2, name="attention_depth")
def depth(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots RESULTS against depth, with and without residual connections and norms."""
    depths, variants = arrays["depths"], arrays["variants"].tolist()
    upper, lower = figure.subplots(2, sharex=True)
    for name, line, *values in zip(variants, LINES, *map(arrays.get, RESULTS), strict=False):
        for axes, label, by_seed in zip((upper, lower), (name, None), values, strict=True):
            band(axes, depths, *np.quantile(by_seed, (0, 0.5, 1), axis=-1), label=label, **line)
    chance = float(arrays["chance"])
    reference(upper, chance, "chance")
    # Diverged runs are cut off.
    upper.set(title="loss after training [nats per symbol]", ylim=(-0.08, chance * 1.6))
    lower.set(title="gradient norm of the first block at initialization", xlabel="blocks")
    lower.set(yscale="log", xscale="log")
    label_x(lower, depths)
    label_powers(lower)
    figure.legend(loc="outside upper left", ncols=2)
    losses, norms = (np.median(arrays[name][:, -1], axis=-1) for name in RESULTS)
    both, residual, norm, neither = range(4)
    return (
        "Task: reverse a sequence of symbols, which one block can solve. "
        f"Final loss and initial gradient norm with {depths[-1]} blocks: with both "
        f"{losses[both]:.2g} nats and {norms[both]:.2g}; without residual connections "
        f"{losses[norm]:.2g} and {norms[norm]:.1g}; without LayerNorm {losses[residual]:.2g} and "
        f"{norms[residual]:.1g}; without both {losses[neither]:.2g} and {norms[neither]:.1g} "
        f"(chance: {chance:.2f} nats). Lines beyond the axis have diverged. Lines: medians of "
        f"{arrays['final_loss'].shape[-1]} seeds; bands: range. Each variant uses the better of "
        "two learning rates at every depth.",
        f"Loss and gradient norm against depth for {', '.join(variants)}.",
    )


@report_figure("Number of heads at equal parameter count", 6.6, name="attention_heads")
def heads(figure: Figure, arrays: Arrays) -> str:
    """Loss and specialization against the number of heads, and attention by offset."""
    counts, offsets = arrays["heads"].tolist(), arrays["offsets"].tolist()
    layout = [["loss", "specialization"], ["maps", "maps"]]
    panels = figure.subplot_mosaic(layout, height_ratios=(1, 1.55))
    titles = {"loss": "loss [nats per target]", "specialization": "head specialization"}
    for name, title in titles.items():
        axes, values = panels[name], arrays[name]
        axes.plot(counts, values.mean(axis=-1), color=style.BLUE)
        axes.plot(counts, values, "o", color=style.BLUE, alpha=0.5, markersize=4)
        axes.set(title=title, xlabel="heads", xscale="log", ylim=(-0.05, None))
        label_x(axes, counts)
    panels["specialization"].set_ylim(-0.05, 1.05)
    maps = panels["maps"]
    _plot_profiles(maps, [arrays[f"profiles_{count}"][0] for count in counts])
    weight_colorbar(figure, maps.images[0], ax=maps, **BELOW)
    losses, scores = (arrays[name].mean(axis=-1) for name in titles)
    best = int(np.argmax(scores))
    loss_text = ", ".join(
        f"{loss:.2g} with {count} head{'s'[: count > 1]}"
        for count, loss in zip(counts, losses, strict=True)
    )
    profile, costs = (arrays[f"{name}_{counts[best]}"][0] for name in ("profiles", "costs"))
    needed = int((costs.max(axis=-1) > NEEDED).sum())
    return (
        f"Task: predict the symbols at offsets {', '.join(map(str, offsets[:-1]))} and "
        f"{offsets[-1]} before every position, with one attention layer and a linear readout of "
        f"{int(arrays['parameters'][0]):,} parameters for any number of heads. Loss: {loss_text} "
        f"(chance: {arrays['chance']:.2f}). One head averages over all offsets; several "
        "heads can attend to one offset each. Specialization is 1 for heads that attend to a "
        f"single offset and 0 for uniform attention; it is highest with {counts[best]} heads "
        f"({scores[best]:.2f}), which attend most to the offsets "
        f"{', '.join(str(int(row.argmax())) for row in profile)}. Ablating {needed} of these heads "
        f"raises the loss of some target by more than {NEEDED} nats; the others are redundant."
    )


def _plot_profiles(axes, profiles):
    """Plots the profiles `[head, offset]` of several models as one map, separated by gaps."""
    num_offsets = profiles[0].shape[1]
    gap = "", np.zeros(num_offsets)
    rows = []
    for profile in profiles:
        rows += [(f"{n} of {len(profile)}", row) for n, row in enumerate(profile, 1)] + [gap]
    names, weights = zip(*rows[:-1], strict=True)
    plot_map(axes, np.array(weights))
    axes.set_aspect("auto")
    positions = [row for row, name in enumerate(names) if name]
    axes.set_yticks(positions, [name for name in names if name], fontsize=7.5)
    axes.set_xticks(np.arange(num_offsets))
    axes.set(title="attention by offset (first seed)")
    axes.set(xlabel="offset before the query", ylabel="head")
